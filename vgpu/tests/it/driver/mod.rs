//! The driver as a cudarc program sees it, through the real library, with PTX written by hand.
//!
//! Every test has a context of its own, which it may kill. Those that need another device, or that look at stderr, run
//! themselves again in a child process.

#![allow(unsafe_code)]

mod architectures;
mod capture;
mod clusters;
mod context;
mod cooperative;
mod device;
mod devices;
mod extended;
mod fixtures;
mod launch;
mod memory;
mod module;
mod programmatic;
mod stream;
mod stream_order;
mod tensor_maps;
