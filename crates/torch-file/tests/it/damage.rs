//! Files that are cut, or written to while they are read.

use std::time::Duration;

use testing::checkpoint::*;
use torch_file::{Dtype, Error, TorchFile};

use crate::FORMATS;

#[test]
fn a_file_that_was_written_to_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pt");
    let bytes = std::fs::read(fixture("formats.pt")).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let checkpoint = TorchFile::open(&path).unwrap();
    checkpoint.unchanged().unwrap();
    // Another file in its place is another file: ours is still what it was.
    std::fs::write(folder.path().join("new"), "other").unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    checkpoint.unchanged().unwrap();

    std::fs::write(&path, &bytes).unwrap();
    let checkpoint = TorchFile::open(&path).unwrap();
    // A file's time has steps of some milliseconds.
    std::thread::sleep(Duration::from_millis(30));
    std::fs::write(&path, &bytes).unwrap();
    let message = checkpoint.unchanged().unwrap_err().to_string();
    assert!(message.contains("was written to while it was read"), "{message}");
}

/// A file cut anywhere is refused: none of the formats may lack its end.
#[test]
fn a_cut_file_is_an_error() {
    let small: Vec<_> = (0..9).map(|i| (format!("t{i}"), Dtype::F16, vec![2, i], vec![0x3c; 4 * i])).collect();
    let files = FORMATS.map(|name| std::fs::read(fixture(name)).unwrap()).into_iter();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut");
    for bytes in files.chain([safetensors(&small, None)]) {
        for len in (0..bytes.len()).step_by(bytes.len() / 600 + 1) {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let error = TorchFile::open(&path).err();
            assert!(
                matches!(error, Some(Error::Refused { .. } | Error::UnknownFormat { .. })),
                "{len} of {}: {error:?}",
                bytes.len()
            );
        }
    }
}

#[test]
fn a_file_cut_after_opening_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for name in FORMATS {
        let path = folder.path().join(name);
        std::fs::copy(fixture(name), &path).unwrap();
        let checkpoint = TorchFile::open(&path).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(600).unwrap();
        for tensor in ["shared_a", "transposed"] {
            let message = checkpoint.read_f32(tensor, &mut Vec::new()).unwrap_err().to_string();
            assert!(message.contains("cut short"), "{message}");
        }
    }
}
