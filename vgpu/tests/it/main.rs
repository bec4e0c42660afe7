//! All tests of the crate in one program: what needs no library first, then the library as its users meet it.

mod children;
mod counts;
mod cuda;
mod driver;
mod exec;
mod forms;
mod forms_hopper;
mod lab;
mod library;
mod memory;
mod mma;
mod ptx;
mod random;
mod tensor_core;
mod wgmma;
mod wmma;
