//! Atomics, of which the ring's own test (`testing/loom`) has others that try every order of two threads.

pub use std::sync::Mutex;
pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
