//! Checkpoints from strangers, read as data: PyTorch's zip format (`.pt`, `.pth`, Lightning's `.ckpt`), the format before
//! PyTorch 1.6, and safetensors. Nothing in a file is executed, no tensor is read before it is asked for, and what a file
//! may cost in time and memory is [bounded](limits).
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("model.safetensors");
//! # let header = br#"{"head.bias":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#;
//! # std::fs::write(&path, [&(header.len() as u64).to_le_bytes(), &header[..], &[0, 0x3c, 0, 0xc0]].concat())?;
//! let file = torch_file::TorchFile::open(&path)?;
//! for name in file.names() {
//!     println!("{name}: {}", file.info(name).unwrap()); // head.bias: F16 [2]
//! }
//! let mut bias = Vec::new();
//! file.read_f32("head.bias", &mut bias)?; // of float16, bfloat16, float32 or float64
//! assert_eq!(bias, [1.0, -2.0]);
//! # Ok(())
//! # }
//! ```
//!
//! [`TorchFile::open`] finds the state dict by itself: `state_dict` (as Lightning writes it), the root, or the only dict of
//! tensors among the root's entries. [`Options`] say otherwise. What else a file holds (epochs, hyper-parameters, arguments)
//! is in [`TorchFile::settings`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod crc;
pub mod elements;
mod error;
mod file;
mod items;
mod layout;
mod legacy;
pub mod limits;
pub mod lists;
mod options;
mod pickle;
pub mod printable;
mod safetensors;
mod search;
mod settings;
mod source;
mod torch;
mod value;
mod zip;

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The type of a tensor's elements: that of the `safetensors` crate, for files of all formats.
pub use ::safetensors::Dtype;

pub use error::{Error, Result};
pub use file::{Format, TensorInfo, TorchFile};
pub use options::Options;
pub use value::Value;
