//! What the published package can test by itself: no other crate's builders, no committed files.

use torch_file::{Dtype, Error, Format, TorchFile, Value, limits};

/// BINUNICODE.
fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// A file as PyTorch wrote it before 1.6: `{"weight": tensor, "epoch": 3, "evil": a call}`, the tensor 2×2 and transposed.
fn legacy() -> Vec<u8> {
    let storage = [
        b"(".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        b"K\x04tQ".to_vec(),
    ];
    let tensor = [
        b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
        storage.concat(),
        b"K\x00K\x02K\x02\x86K\x01K\x02\x86\x89}tR".to_vec(),
    ];
    let evil = [b"cos\nsystem\n".to_vec(), text("exit 1"), b"\x85R".to_vec()].concat();
    let entries = [text("weight"), tensor.concat(), text("epoch"), b"K\x03".to_vec(), text("evil"), evil];
    [
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02}(".to_vec(),
        entries.concat(),
        b"u.\x80\x02](".to_vec(),
        text("0"),
        b"e.".to_vec(),
        4u64.to_le_bytes().to_vec(),
        [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect(),
    ]
    .concat()
}

#[test]
fn an_old_file_is_read_and_nothing_in_it_is_run() {
    let file = TorchFile::from_bytes("old.pt", legacy()).unwrap();
    assert_eq!(file.format(), Format::TorchLegacy);
    assert_eq!(file.info("weight").unwrap().to_string(), "F32 [2, 2]");
    let mut values = Vec::new();
    file.read_f32("weight", &mut values).unwrap();
    assert_eq!(values, [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(file.settings()["epoch"], Value::Int(3));
    assert_eq!(file.other("evil"), Some("os.system"));
    let error = file.read_f32("evil", &mut values).unwrap_err();
    assert!(matches!(error, Error::MissingTensor { .. }), "{error}");
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let bytes = legacy();
    for len in 0..bytes.len() {
        let error = TorchFile::from_bytes("cut.pt", bytes[..len].to_vec()).unwrap_err();
        assert!(matches!(error, Error::Refused { .. } | Error::UnknownFormat { .. }), "{len}: {error}");
    }
}

#[test]
fn a_safetensors_file_is_read_from_its_path() {
    let header = br#"{"__metadata__":{"format":"pt"},"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes(), &header[..], &[0x80, 0x3f, 0, 0xc0]].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let file = TorchFile::open(&path).unwrap();
    assert_eq!((file.format(), file.info("x").unwrap().dtype), (Format::Safetensors, Dtype::BF16));
    assert_eq!(file.metadata()["format"], "pt");
    let mut values = Vec::new();
    file.read_f32("x", &mut values).unwrap();
    assert_eq!(values, [1.0, -2.0]);
    file.unchanged().unwrap();
}

#[test]
fn the_readmes_limits_are_the_codes() {
    let grouped = |value: u64| {
        let digits = value.to_string();
        let parts: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
        parts.join(",")
    };
    let limits = [
        ("MAX_PICKLE", limits::MAX_PICKLE),
        ("MAX_STEPS", limits::MAX_STEPS as u64),
        ("MAX_OBJECTS", limits::MAX_OBJECTS as u64),
        ("MAX_TEXT", limits::MAX_TEXT as u64),
        ("MAX_ENTRIES", limits::MAX_ENTRIES as u64),
        ("MAX_PARAMETERS", limits::MAX_PARAMETERS as u64),
        ("MAX_DEPTH", limits::MAX_DEPTH as u64),
        ("MAX_LOOKED_AT", limits::MAX_LOOKED_AT as u64),
        ("MAX_SETTINGS", limits::MAX_SETTINGS as u64),
        ("MAX_DIMENSIONS", limits::MAX_DIMENSIONS as u64),
        ("MAX_REPEATED", limits::MAX_REPEATED),
        ("MAX_SHARING", limits::MAX_SHARING),
        ("MAX_REPEATED_BYTES", limits::MAX_REPEATED_BYTES),
        ("MAX_DIRECTORY", limits::MAX_DIRECTORY),
        ("MAX_HEADER", limits::MAX_HEADER),
        ("MAX_METADATA", limits::MAX_METADATA as u64),
    ];
    for (name, value) in limits {
        let row = format!("| `{name}` | {} |", grouped(value));
        assert!(include_str!("../README.md").contains(&row), "README.md lacks {row}");
    }
}
