//! What torch-file's fuzz targets (crates/torch-file/fuzz) and its regressions do with a stranger's file. Every input must end
//! in a result or in an error that can be shown.

use std::fmt::Display;

use torch_file::limits::{MAX_REPEATED_BYTES, MAX_SETTINGS, MAX_SHARING};
use torch_file::{TorchFile, Value};

use crate::checkpoint::torch_zip;

/// Elements of the largest tensor that is read, and of all that are read of one file: reading is linear, and what
/// takes its time finds nothing.
pub const LARGEST_TENSOR: usize = 1 << 16;
pub const MOST_ELEMENTS: usize = 1 << 20;

/// The longest message. (What a stranger's file contributes to one is cut.)
const LONGEST_MESSAGE: usize = 8192;

/// A whole file: PyTorch's zip, the format before it, or safetensors.
pub fn file(bytes: &[u8]) {
    let Some(file) = shown(TorchFile::from_bytes("input", bytes.to_vec())) else { return };
    let described: u64 = file.names().filter_map(|name| file.info(name)).map(|info| info.bytes()).sum();
    assert!(described <= MAX_SHARING * file.size() + MAX_REPEATED_BYTES, "{} bytes pass for {described}", file.size());
    let settings: usize = file.settings().values().map(count).sum();
    assert!(settings <= MAX_SETTINGS + 1, "{settings} settings");
    let (mut raw, mut floats, mut read) = (Vec::new(), Vec::new(), 0);
    for name in file.names() {
        let info = file.info(name).expect("a name from the list");
        if info.count() > LARGEST_TENSOR || read + info.count() > MOST_ELEMENTS {
            continue;
        }
        read += info.count();
        if shown(file.read_raw(name, &mut raw)).is_some() {
            assert_eq!(raw.len() as u64, info.bytes());
        }
        if shown(file.read_f32(name, &mut floats)).is_some() {
            assert_eq!(floats.len(), info.count());
        }
    }
}

/// The objects (`data.pkl`) of a file that is right in all else.
pub fn pickle(bytes: &[u8]) {
    file(&around(bytes));
}

/// A zip with these objects and ten storages: a stranger's own has checksums that would stop every change.
pub fn around(objects: &[u8]) -> Vec<u8> {
    let storages: Vec<_> = (0..10).map(|key| (key.to_string(), vec![0x3c; 256])).collect();
    torch_zip(objects, &storages)
}

/// Values in a value, itself among them.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::List(members) => members.iter().map(count).sum(),
        Value::Dict(entries) | Value::Object { entries, .. } => entries.values().map(count).sum(),
        _ => 0,
    }
}

/// The result; an error must be one line of bounded length, without what would control a terminal.
pub fn shown<T>(result: Result<T, impl Display>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let message = error.to_string();
    assert!(message.len() <= LONGEST_MESSAGE, "a message of {} bytes: {:.200}…", message.len(), message);
    assert!(!message.chars().any(char::is_control), "control characters in {message:?}");
    None
}
