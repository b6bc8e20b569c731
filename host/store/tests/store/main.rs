//! The store against real files: one binary.
#![cfg(test)]

mod crash;
mod damage;
mod documents;
mod failing;
mod fixture;
mod full_disk;
mod limits;
mod model;
mod opening;
mod queue;
mod redelivery;
