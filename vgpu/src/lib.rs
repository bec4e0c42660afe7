//! A virtual GPU: the functions of the CUDA driver, executing the PTX that nvcc wrote on the CPU, warp by warp, with
//! checks that no GPU makes and counts of what each launch did.
//!
//! The crate's product is a C library: `cargo build --release` makes `libvgpu_cuda.so`, which calls itself `libcuda.so`. Put
//! it under that name where a program looks for the driver (`LD_LIBRARY_PATH`); the README says how, and which variables
//! `VGPU_*` it reads. Beside CUDA's own functions it exports three, which a program finds by `dlsym`:
//!
//! ```c
//! // The report of the fault that killed the thread's current context; empty if it is alive.
//! CUresult vgpu_last_fault(char *text, size_t size);
//! // The counts of that context's last launch as JSON (docs/counts.md); empty if there was none.
//! CUresult vgpu_last_counts(char *text, size_t size);
//! // Chooses the devices as VGPU_DEVICES does, instead of it; before cuInit.
//! CUresult vgpu_set_devices(const char *list);
//! ```
//!
//! Both texts end in NUL and are cut to `size` bytes with it.
//!
//! The Rust items below say what these texts are made of: [`counts`] what is counted, [`fault`] what is found,
//! [`profile`] the GPUs that can be emulated. All else is public for the crate's own tests and benches and promises nothing.

// The way of a kernel: `ptx` parses the text and decodes it into an `ir::Program` → `exec` runs its blocks on threads →
// every access goes through `mem`, which checks it → the launch answers with `Counts` or a `Fault`. `driver` is the C
// interface on top: contexts, modules, memory, streams, graphs.

#![warn(missing_docs)]

pub mod counts;
#[doc(hidden)]
pub mod driver;
#[doc(hidden)]
pub mod exec;
pub mod fault;
#[doc(hidden)]
pub mod ir;
#[doc(hidden)]
pub mod mem;
pub mod profile;
#[doc(hidden)]
pub mod ptx;
