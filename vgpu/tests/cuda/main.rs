//! The virtual GPU as its users meet it: kernels that nvcc compiled, launched through cudarc.
//!
//! `cargo xtask vgpu` builds what is needed; without it (or without nvcc) these tests say that they are skipped.

mod checks;
mod children;
mod gpu;
mod kernels;
mod mutants;
mod patterns;
mod public;
#[path = "../support/random.rs"]
mod random;
mod reference;
