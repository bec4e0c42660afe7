//! Checkpoints built byte by byte, and the committed ones.

use std::io::{Cursor, Write};
use std::ops::Range;
use std::path::PathBuf;

use safetensors::tensor::{Dtype, TensorView};
use zip::write::SimpleFileOptions;

use crate::files::root;

/// Name, type, shape and little-endian elements.
pub type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// A file made by tests/golden/checkpoint_fixtures.py.
pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/golden/checkpoint").join(name)
}

/// A pre-1.6 PyTorch file around a pickle of objects (without PROTO and STOP) and its float32 storages.
pub fn legacy(objects: &[u8], storages: &[(&str, &[f32])]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(b"\x80\x02M\xe9\x03.");
    file.extend(b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u.");
    file.extend(b"\x80\x02");
    file.extend(objects);
    file.extend(b".\x80\x02](");
    for (key, _) in storages {
        file.extend(text(key));
    }
    file.extend(b"e.");
    for (_, values) in storages {
        file.extend((values.len() as u64).to_le_bytes());
        file.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }
    file
}

/// A zip as PyTorch writes it, with a pickle of objects and float32 storages.
pub fn torch_zip(pickle: &[u8], storages: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let entries = storages.iter().map(|(key, bytes)| (format!("m/data/{key}"), bytes.as_slice()));
    for (name, bytes) in [("m/data.pkl".to_owned(), pickle)].into_iter().chain(entries) {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// BINUNICODE.
pub fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// The shortest opcode that holds any i64: LONG1 of 8 bytes.
pub fn int(value: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &value.to_le_bytes()].concat()
}

/// The pickled call that rebuilds a tensor over a float32 storage.
pub fn tensor(key: &str, count: i64, start: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let tuple =
        |numbers: &[i64]| [b"(".to_vec(), numbers.iter().flat_map(|&n| int(n)).collect(), b"t".to_vec()].concat();
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(key),
        text("cpu"),
        int(count),
        b"tQ".to_vec(),
        int(start),
        tuple(shape),
        tuple(strides),
        b"\x89}tR".to_vec(),
    ]
    .concat()
}

/// A pickled dict of one entry.
pub fn dict(key: &str, value: &[u8]) -> Vec<u8> {
    [b"}".to_vec(), text(key), value.to_vec(), b"s".to_vec()].concat()
}

/// A safetensors file of given tensors.
pub fn safetensors(tensors: &[Tensor], metadata: Option<(&str, String)>) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    let metadata = metadata.map(|(key, value)| [(key.to_owned(), value)].into());
    safetensors::serialize(views, metadata).unwrap()
}

/// A dict of these entries: keys with their values, both pickled.
pub fn dict_of(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [key.as_slice(), value].concat()).collect();
    [b"}(".as_slice(), &entries, b"u"].concat()
}

/// BINPUT of memo entry `n` behind a value.
pub fn put(n: u8, value: &[u8]) -> Vec<u8> {
    [value, &[b'q', n]].concat()
}

/// BINGET of memo entry `n`.
pub fn get(n: u8) -> Vec<u8> {
    vec![b'h', n]
}

/// Where the bytes of each of a zip's entries lie.
pub fn zip_places(bytes: &[u8]) -> Vec<(String, Range<usize>)> {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let places = (0..zip.len()).map(|i| {
        let entry = zip.by_index_raw(i).unwrap();
        let start = entry.data_start().unwrap() as usize;
        (entry.name().unwrap().into_owned(), start..start + entry.size() as usize)
    });
    places.collect()
}
