//! Files in forms that are not read, and crafted ones.

use testing::checkpoint::*;
use torch_file::{Error, TorchFile};

use crate::{entry, floats, open, open_bytes, refusal};

#[test]
fn files_in_other_byte_orders_compressions_and_forms_are_refused_by_name() {
    let message = |name: &str| TorchFile::open(fixture(name)).err().unwrap().to_string();
    let big = message("big_endian.pt");
    assert!(big.contains("byte order \"big\"") && big.contains("save it again"), "{big}");
    let compressed = message("compressed.pt");
    assert!(compressed.contains("compressed") && compressed.contains("torch.save"), "{compressed}");
    let module = message("module.pt");
    assert!(module.contains("torch.nn.modules.linear.Linear") && module.contains("state_dict()"), "{module}");

    let mut legacy_big = legacy(b"}", &[]);
    let at = legacy_big.windows(14).position(|w| w == b"little_endian\x88").unwrap() + 13;
    legacy_big[at] = 0x89;
    assert!(refusal(&legacy_big).contains("byte order \"big\""));
}

#[test]
fn nothing_in_a_file_is_executed() {
    let beside = open("evil_beside.ckpt");
    assert_eq!(floats(&beside, "w", &[2]), [0.0, 1.0]);
    let message = beside.read_f32("e", &mut Vec::new()).unwrap_err().to_string();
    assert!(message.contains("posix.system"), "{message}");
    let message = TorchFile::open(fixture("evil_state_dict.ckpt")).err().unwrap().to_string();
    assert!(message.contains("posix.system"), "{message}");
    assert!(!std::path::Path::new("lseg_fast_executed_a_checkpoint").exists());
}

/// Objects that are wrong in ways a damaged or a crafted file can be; each with a part of its message.
#[test]
fn crafted_tensors_are_refused() {
    let refused = |call: Vec<u8>, expected: &str| {
        let message = refusal(&legacy(&dict("t", &call), &[("0", &[0.0; 6])]));
        assert!(message.contains(expected) && message.contains("tensor t"), "{message} (expected: {expected})");
    };
    refused(tensor("0", 6, 0, &[7], &[1]), "do not fit its storage of 6 elements");
    refused(tensor("0", 6, 1, &[6], &[1]), "do not fit its storage");
    refused(tensor("0", 6, 0, &[2, 3], &[4, 1]), "do not fit its storage");
    refused(tensor("0", 6, i64::MAX, &[1], &[1]), "do not fit its storage");
    refused(tensor("0", 6, 0, &[i64::MAX, i64::MAX], &[0, 0]), "do not fit its storage");
    refused(tensor("0", 6, 0, &[1 << 40], &[0]), "do not fit its storage");
    refused(tensor("0", 6, 0, &[2, 2], &[i64::MAX, i64::MAX]), "do not fit its storage");
    refused(tensor("0", 6, 0, &[-2], &[1]), "sizes are no whole numbers");
    refused(tensor("0", 6, 0, &[2], &[-1]), "strides are no whole numbers");
    refused(tensor("0", 6, -1, &[2], &[1]), "first element");
    refused(tensor("0", 6, 0, &[2, 2], &[1]), "2 sizes and 1 strides");
    refused(tensor("0", 6, 0, &[1; 17], &[1; 17]), "17 sizes");
    refused(tensor("0", 6, 0, &[3, 3], &[1, 1]), "overlaps itself");
}

#[test]
fn crafted_storages_are_refused() {
    let call = |key: &str, count| dict("t", &tensor(key, count, 0, &[1], &[1]));
    assert!(refusal(&legacy(&call("0", i64::MAX), &[("0", &[0.0])])).contains("1 elements, 9223372036854775807"));
    assert!(refusal(&legacy(&call("0", -1), &[("0", &[0.0])])).contains("no whole number"));
    assert!(refusal(&legacy(&call("1", 1), &[("0", &[0.0])])).contains("storage 0 belongs to no tensor"));
    assert!(refusal(&legacy(&call("0", 1), &[])).contains("not in the file"));
    assert!(refusal(&legacy(&call("0", 1), &[("0", &[0.0]), ("0", &[0.0])])).contains("belongs to no tensor"));

    let zip = |pickle: &[u8], bytes: usize| {
        let pickle = [b"\x80\x02".as_slice(), pickle, b"."].concat();
        torch_zip(&pickle, &[("0".to_owned(), vec![0; bytes])])
    };
    assert!(open_bytes(&zip(&call("0", 1), 4)).is_ok());
    assert!(refusal(&zip(&call("0", 2), 4)).contains("storage 0 has 4 bytes"));
    assert!(refusal(&zip(&call("0", i64::MAX), 4)).contains("storage 0 has 4 bytes"));
    assert!(refusal(&zip(&call("7", 1), 4)).contains("data/7 is missing"));
    assert!(refusal(&zip(&call("../m/data.pkl", 1), 4)).contains("is missing"));
}

/// Before 1.6 storages follow each other: where one lies depends on the sizes of those that are not read as well.
#[test]
fn storages_behind_those_that_are_not_read_are_found() {
    let named = |class: &str, key: &str| {
        let call = tensor(key, 4, 0, &[4], &[1]);
        let at = call.windows(12).position(|part| part == b"FloatStorage").unwrap();
        [&call[..at], class.as_bytes(), &call[at + 12..]].concat()
    };
    for (class, size) in [("ComplexDoubleStorage", 16), ("QInt32Storage", 4), ("QInt8Storage", 1), ("QUInt8Storage", 1)]
    {
        let objects = dict_of(&[entry("a", &named(class, "0")), entry("b", &tensor("1", 4, 0, &[4], &[1]))]);
        let mut bytes = legacy(&objects, &[("0", &[0.0; 4]), ("1", &[1.0, 2.0, 3.0, 4.0])]);
        // The first storage as long as its elements say.
        let behind = bytes.len() - (8 + 16);
        bytes.splice(behind - 16..behind, vec![0; 4 * size]);
        let file = open_bytes(&bytes).unwrap();
        assert_eq!(floats(&file, "b", &[4]), [1.0, 2.0, 3.0, 4.0], "{class}");
        assert_eq!(file.other("a"), Some(format!("torch.{class}").as_str()));
    }
    let unknown = refusal(&legacy(&dict("t", &named("NewStorage", "0")), &[("0", &[0.0; 4])]));
    assert!(unknown.contains("torch.NewStorage are not known; save the model again with PyTorch 1.6"), "{unknown}");
}

#[test]
fn messages_stay_on_one_line() {
    let call = b"cos\n\x1b[31m\rsystem\n)R".as_slice();
    let message = refusal(&legacy(&dict("state_dict", call), &[]));
    assert!(message.contains("system") && !message.contains(char::is_control), "{message:?}");

    let name = "a\nerror: \u{1b}[31m\u{202e}b";
    let shown = r"a\nerror: \u{1b}[31m\u{202e}b";
    let message = TorchFile::from_bytes(name, b"".as_slice()).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{shown}: is empty")), "{message:?}");
    let error = TorchFile::open(name).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot open {shown}: ")), "{error:?}");
    assert_eq!(error.path().to_str(), Some(name), "as it was given");
}

#[test]
fn what_is_of_no_known_format_is_told_so() {
    for (bytes, words) in [(b"".as_slice(), "is empty"), (b"hello there", "starts with bytes 68 65 6c 6c 6f 20 74 68)")]
    {
        let error = open_bytes(bytes).unwrap_err();
        assert!(matches!(&error, Error::UnknownFormat { head, .. } if head == bytes), "{error:?}");
        assert!(error.to_string().starts_with("file: ") && error.reason().contains(words), "{error}");
    }
    assert!(refusal(b"\x80\x03}.").contains("not a checkpoint"));
    assert!(refusal(&torch_zip(b"\x80\x02}.", &[])).contains("no tensors"));
    let missing = TorchFile::open("no/such/file").unwrap_err();
    assert!(matches!(missing, Error::Io { action: "open", .. }), "{missing}");
    assert!(missing.to_string().starts_with("cannot open no/such/file: "), "{missing}");
    let folder = TorchFile::open(env!("CARGO_MANIFEST_DIR")).unwrap_err().to_string();
    assert!(folder.contains("is a folder"), "{folder}");
}

#[test]
fn a_tensor_that_is_missing_or_no_floats_is_told_with_what_is_there() {
    let file = open("formats.pt");
    let error = |name: &str| file.read_f32(name, &mut Vec::new()).unwrap_err();
    assert!(matches!(error("nothing"), Error::MissingTensor { class: None, .. }));
    assert!(error("nothing").to_string().ends_with("tensor nothing is missing"));
    assert!(matches!(error("note"), Error::MissingTensor { class: Some(class), .. } if class == "str"));
    assert!(error("complex").to_string().contains("torch.ComplexDoubleStorage"));
    assert!(
        error("i64").to_string().ends_with("expected floats (F16, BF16, F32 or F64), found I64 [2]"),
        "{}",
        error("i64")
    );
    assert_eq!(file.other("note"), Some("str"));
    assert!(file.others().all(|(name, class)| file.other(name) == Some(class) && file.info(name).is_none()));
}
