//! The store against real files: one binary.

mod crash;
mod damage;
mod fixture;
mod full_disk;
mod limits;
mod model;
mod opening;
mod queue;
