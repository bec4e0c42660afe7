//! The virtual GPU as its users meet it: kernels that nvcc compiled, launched through cudarc.

mod checks;
mod compiled;
mod gpu;
mod hopper;
mod hopper_kernels;
mod hopper_mutants;
mod kernels;
mod mutants;
mod order;
mod patterns;
mod public;
mod reference;
