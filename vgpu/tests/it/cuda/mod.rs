//! The virtual GPU as its users meet it: kernels that nvcc compiled, launched through cudarc.

mod checks;
mod gpu;
mod kernels;
mod mutants;
mod patterns;
mod public;
mod reference;
