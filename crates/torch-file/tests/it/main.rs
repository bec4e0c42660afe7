//! Files of every format, damaged and crafted ones. `cargo test --test it zip::` runs the tests of one module.

mod crafted;
mod damage;
mod layouts;
mod limits;
mod regressions;
mod safetensors;
mod settings;
mod state_dict;
mod zip;

use testing::checkpoint::{fixture, text};
use torch_file::{Result, TorchFile};

/// The same tensors, as versions of PyTorch write them.
const FORMATS: [&str; 4] = ["formats.pt", "formats_old_zip.pt", "formats_protocol4.pt", "formats_legacy.pt"];

/// A committed checkpoint.
fn open(name: &str) -> TorchFile {
    TorchFile::open(fixture(name)).unwrap()
}

fn open_bytes(bytes: &[u8]) -> Result<TorchFile> {
    TorchFile::from_bytes("file", bytes.to_vec())
}

/// The message with which these bytes are refused.
#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    open_bytes(bytes).unwrap_err().to_string()
}

/// The elements of a tensor of this shape.
#[track_caller]
fn floats(file: &TorchFile, name: &str, shape: &[usize]) -> Vec<f32> {
    assert_eq!(file.info(name).unwrap().shape, shape);
    // What a caller's buffer held before must not show through.
    let mut values = vec![99.0; 3];
    file.read_f32(name, &mut values).unwrap();
    values
}

/// An entry of a pickled dict: a key and its value.
fn entry(key: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (text(key), value.to_vec())
}
