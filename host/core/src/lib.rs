//! Words and rules of the hub; no I/O, no SQL, no runtime.

pub mod route;
