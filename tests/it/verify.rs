//! The checksum that `convert` writes and `info --verify` compares, and what else `--verify` sees.

use std::path::Path;
use std::process::{Command, Output};

use lseg_fast::Error;
use lseg_fast::checkpoint::Dtype;
use lseg_fast::checksum::{Checksum, METADATA_KEY, verify};
use lseg_fast::convert::{Options, TargetDtype, convert};
use lseg_fast::model::config;
use lseg_fast::model::detect::{HeadBlockOverride, detect};
use testing::checkpoint::*;
use testing::models::*;

/// A small model as `convert` writes it.
fn converted(dtype: TargetDtype) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m.safetensors");
    let source = open_bytes(&safetensors(&model(&narrow()), None)).unwrap();
    convert(&source, &narrow(), &Options { out: out.clone(), dtype }, &mut |_, _| {}).unwrap();
    std::fs::read(out).unwrap()
}

fn verified(bytes: &[u8]) -> Result<Checksum, Error> {
    let checkpoint = open_bytes(bytes)?;
    let config = detect(&checkpoint, &HeadBlockOverride::default())?;
    verify(&checkpoint, &config)
}

#[test]
fn what_convert_writes_is_verified_and_always_the_same() {
    for dtype in [TargetDtype::Source, TargetDtype::F16] {
        let bytes = converted(dtype);
        assert_eq!(verified(&bytes).unwrap(), Checksum::Verified);
        assert_eq!(bytes, converted(dtype));
        // The sum is that of any other program: of the file with zeros in the sum's place.
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        let (stated, key) = (&metadata[METADATA_KEY], format!("\"{METADATA_KEY}\":\""));
        let place = bytes.windows(key.len()).position(|part| part == key.as_bytes()).unwrap() + key.len();
        let mut zeroed = bytes.clone();
        zeroed[place..place + 8].copy_from_slice(b"00000000");
        let mut sum = flate2::Crc::new();
        sum.update(&zeroed);
        assert_eq!(*stated, format!("{:08x}", sum.sum()));
        assert!(metadata.contains_key(config::METADATA_KEY));
    }
}

/// A flipped bit in the header's length, a name, a shape, the configuration, the padding, a weight: none passes as
/// verified. Where the sum's key itself is hit the file is one without a sum.
#[test]
fn a_flipped_bit_anywhere_is_seen() {
    let bytes = converted(TargetDtype::Source);
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let entry = 8 + r#"{"__metadata__":{"#.len()..8 + r#"{"__metadata__":{"lseg-fast.checksum":"00000000""#.len();
    let places = (0..200).chain((200..header).step_by(37)).chain((header..bytes.len()).step_by(bytes.len() / 150));
    for at in places {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        match verified(&damaged) {
            Err(_) => {}
            Ok(Checksum::Missing) if entry.contains(&at) => {}
            other => panic!("byte {at} of {}, header {header}: {other:?}", bytes.len()),
        }
    }
}

#[test]
fn what_has_no_checksum_is_said_to_have_none() {
    let stated = Some((config::METADATA_KEY, serde_json::to_string(&narrow()).unwrap()));
    assert_eq!(verified(&safetensors(&model(&narrow()), stated)).unwrap(), Checksum::Missing);
    // PyTorch's zip has one a storage, the format before it has none.
    let whole = |name| verified(&std::fs::read(fixture(name)).unwrap()).unwrap();
    assert_eq!(whole("lightning.ckpt"), Checksum::Verified);
    assert_eq!(whole("lightning_vit.ckpt"), Checksum::Missing);
}

#[test]
fn a_value_that_is_no_number_is_told() {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let mut tensors = model(&narrow());
        let bias = tensors.iter_mut().find(|x| x.0 == "scratch.head1.bias").unwrap();
        bias.3[8..12].copy_from_slice(&value.to_le_bytes());
        let stated = Some((config::METADATA_KEY, serde_json::to_string(&narrow()).unwrap()));
        let message = verified(&safetensors(&tensors, stated)).unwrap_err().to_string();
        assert!(
            message.contains(&format!("scratch.head1.bias: expected finite values, found {shown} at index 2")),
            "{message}"
        );
    }
}

fn info(path: &Path, json: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lseg-fast"));
    command.arg("info").arg(path).arg("--verify").args(json.then_some("--json")).output().unwrap()
}

#[test]
fn the_command_answers_in_words_json_and_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let answer = |bytes: &[u8], json| {
        std::fs::write(&path, bytes).unwrap();
        let output = info(&path, json);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let mut bytes = converted(TargetDtype::Source);
    let (code, text) = answer(&bytes, false);
    assert!(code == Some(0) && text.contains("verified; every value is a number"), "{text}");
    assert!(answer(&bytes, true).1.contains("\"checksum\":\"verified\""));

    let stated = Some((config::METADATA_KEY, serde_json::to_string(&narrow()).unwrap()));
    let (code, text) = answer(&safetensors(&model(&narrow()), stated), true);
    assert!(code == Some(0) && text.contains("\"checksum\":\"missing\""), "{text}");

    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    let (code, text) = answer(&bytes, false);
    assert!(code == Some(1) && text.contains("the file is damaged or was changed"), "{text}");
}

/// Every type's infinities stop a conversion, wherever they stand, and nothing is written; in a tensor that the model does
/// not need they are nobody's matter.
#[test]
fn nothing_that_is_no_number_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m.safetensors");
    let name = "clip_pretrained.token_embedding.weight";
    let infinities: [(Dtype, Vec<u8>); 4] = [
        (Dtype::F16, half::f16::INFINITY.to_le_bytes().to_vec()),
        (Dtype::BF16, half::bf16::NAN.to_le_bytes().to_vec()),
        (Dtype::F32, f32::NAN.to_le_bytes().to_vec()),
        (Dtype::F64, f64::NEG_INFINITY.to_le_bytes().to_vec()),
    ];
    for (dtype, value) in &infinities {
        for target in [TargetDtype::Source, TargetDtype::F16, TargetDtype::F32] {
            let mut tensors = model(&narrow());
            let table = tensors.iter_mut().find(|x| x.0 == name).unwrap();
            let count = table.2.iter().product::<usize>();
            table.1 = *dtype;
            table.3 = vec![0; count * value.len()];
            table.3[1000 * value.len()..1001 * value.len()].copy_from_slice(value);
            let source = open_bytes(&safetensors(&tensors, None)).unwrap();
            let options = Options { out: out.clone(), dtype: target };
            let error = convert(&source, &narrow(), &options, &mut |_, _| {}).unwrap_err();
            assert!(matches!(error, Error::Tensor { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(name) && message.contains("at index 1000"), "{message}");
            assert!(!out.exists());
        }
    }
    let mut tensors = model(&narrow());
    tensors.push(("loss.weight".to_owned(), Dtype::F32, vec![1], f32::NAN.to_le_bytes().to_vec()));
    let source = open_bytes(&safetensors(&tensors, None)).unwrap();
    let options = Options { out: out.clone(), dtype: TargetDtype::F16 };
    convert(&source, &narrow(), &options, &mut |_, _| {}).unwrap();
}
