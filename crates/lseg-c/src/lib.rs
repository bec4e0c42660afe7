//! lseg-fast for C: each function of include/lseg_fast.h, in the order of its sections. Comments of public items are written for
//! readers of that header, which cbindgen makes of these files (header/). Nothing is decided here: calls are translated.
//!
//! `unsafe` is what C needs: each function takes pointers, of which its comment says what they must be.

#![allow(non_camel_case_types)]
#![allow(clippy::missing_safety_doc)] // The header says once for all what pointers must be.

mod answer;
mod codes;
mod engine;
mod given;
mod image;
mod output;
mod segment;
mod status;
mod stream;
#[cfg(test)]
mod stream_tests;
mod tensor;
#[cfg(test)]
mod tests;

// For the header's reader alone: a program links symbols.
pub use answer::*;
pub use codes::*;
pub use engine::*;
pub use image::*;
pub use output::*;
pub use segment::*;
pub use status::*;
pub use stream::*;
pub use tensor::*;
