//! Opening checkpoints: every format and layout, and what strangers' files may try.

use std::time::{Duration, Instant};

use lseg_fast::Error;
use lseg_fast::checkpoint::{Checkpoint, Dtype, HyperParameter, HyperParameters};
use testing::checkpoint::*;
use testing::models::*;

const FORMATS: [&str; 4] = ["formats.pt", "formats_old_zip.pt", "formats_protocol4.pt", "formats_legacy.pt"];

fn floats(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Vec<f32> {
    // What a caller's buffer held before must not show through.
    let mut values = vec![99.0; 3];
    checkpoint.read_f32(name, shape, &mut values).unwrap();
    values
}

#[test]
fn every_layout_and_type_reads_the_same_values() {
    for file in FORMATS {
        let checkpoint = open(file);
        let read = |name, shape: &[usize]| floats(&checkpoint, name, shape);
        assert_eq!(read("f32", &[2, 3]), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5], "{file}");
        assert_eq!(read("f16", &[5]), [0.0, 0.25, 0.5, 0.75, 1.0], "{file}");
        assert_eq!(read("bf16", &[5]), [-2.0, -1.0, 0.0, 1.0, 2.0], "{file}");
        assert_eq!(read("f64", &[2, 2]), [0.0, 0.125, 0.25, 0.375], "{file}");
        assert_eq!(read("scalar", &[]), [7.0], "{file}");
        assert_eq!(read("empty", &[0, 3]), [0.0; 0], "{file}");
        assert_eq!(read("parameter", &[4]), [0.0, 1.0, 2.0, 3.0], "{file}");
    }
}

#[test]
fn views_are_gathered() {
    for file in FORMATS {
        let checkpoint = open(file);
        let read = |name, shape: &[usize]| floats(&checkpoint, name, shape);
        let transposed: Vec<f32> = (0..4).flat_map(|i| (0..3).map(move |j| (4 * j + i) as f32)).collect();
        assert_eq!(read("transposed", &[4, 3]), transposed, "{file}");
        assert_eq!(read("transposed_f16", &[4, 3]), transposed, "{file}");
        let permuted: Vec<f32> =
            (0..4).flat_map(|k| (0..2).flat_map(move |i| (0..3).map(move |j| (12 * i + 4 * j + k) as f32))).collect();
        assert_eq!(read("permuted", &[4, 2, 3]), permuted, "{file}");
        assert_eq!(read("every_other", &[10]), (0..10).map(|i| (2 * i + 1) as f32).collect::<Vec<_>>(), "{file}");
        assert_eq!(read("expanded", &[2, 3]), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], "{file}");
        assert_eq!(read("shared_a", &[6]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{file}");
        assert_eq!(read("shared_b", &[2, 3]), [8.0, 9.0, 10.0, 17.0, 18.0, 19.0], "{file}");
    }
}

/// A gathered tensor larger than the window through which it is read, against its contiguous twin.
#[test]
fn a_large_view_is_gathered_through_a_small_window() {
    let (rows, columns) = (1500usize, 1000usize);
    let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
    let strided = tensor("0", values.len() as i64, 0, &[columns as i64, rows as i64], &[1, columns as i64]);
    let checkpoint = open_bytes(&legacy(&dict("t", &strided), &[("0", &values)])).unwrap();
    let read = floats(&checkpoint, "t", &[columns, rows]);
    assert!((0..columns).all(|i| (0..rows).all(|j| read[i * rows + j] == values[j * columns + i])));
}

#[test]
fn raw_bytes_keep_their_type() {
    for file in FORMATS {
        let checkpoint = open(file);
        let mut bytes = vec![1];
        checkpoint.read_raw("f16", &mut bytes).unwrap();
        assert_eq!(bytes, [0x00, 0x00, 0x00, 0x34, 0x00, 0x38, 0x00, 0x3a, 0x00, 0x3c], "{file}");
        checkpoint.read_raw("i64", &mut bytes).unwrap();
        assert_eq!(bytes, [3i64.to_le_bytes(), (-4i64).to_le_bytes()].concat(), "{file}");
        assert_eq!(checkpoint.info("transposed").unwrap().shape, [4, 3], "{file}");
        assert_eq!(checkpoint.info("bool").unwrap().dtype, Dtype::BOOL, "{file}");
    }
    assert_eq!(open("formats.pt").info("u16").unwrap().dtype, Dtype::U16);
}

#[test]
fn a_wrong_tensor_is_told_with_what_was_expected_and_found() {
    let checkpoint = open("formats.pt");
    let fails = |name, shape: &[usize]| checkpoint.read_f32(name, shape, &mut Vec::new()).unwrap_err().to_string();
    let message = fails("f32", &[3, 2]);
    assert!(message.contains("expected float [3, 2], found F32 [2, 3]"), "{message}");
    let message = fails("i64", &[2]);
    assert!(message.contains("expected float [2], found I64 [2]"), "{message}");
    let message = fails("nothing", &[2]);
    assert!(message.contains("tensor nothing [2] is missing"), "{message}");
    // What is there, but no tensor, is refused by its class's name, and only when it is needed.
    let message = fails("note", &[2]);
    assert!(message.contains("tensor note [2] is missing") && message.contains("class str"), "{message}");
    let message = fails("complex", &[2]);
    assert!(message.contains("torch.ComplexDoubleStorage"), "{message}");
}

#[test]
fn lightning_files_load_as_plain_ones() {
    let lightning = open("lightning.ckpt");
    let plain = open("state_dict_legacy.pt");
    let names: Vec<&str> = lightning.names().collect();
    assert_eq!(names, plain.names().collect::<Vec<_>>());
    assert!(names.contains(&"pretrained.layer1.4.0.conv1.weight") && names.is_sorted());
    for name in names {
        assert_eq!(lightning.info(name), plain.info(name), "{name}");
        let (mut a, mut b) = (Vec::new(), Vec::new());
        lightning.read_raw(name, &mut a).unwrap();
        plain.read_raw(name, &mut b).unwrap();
        assert_eq!(a, b, "{name}");
    }
}

/// However training code wraps, compiles, nests or saves the network, the tensors are those of the plain file.
#[test]
fn other_layouts_load_as_plain_files() {
    let plain = open("state_dict_legacy.pt");
    let part = |name: &&str| name.starts_with("pretrained.layer1.") || name.starts_with("scratch.head1.");
    let expected: Vec<&str> = plain.names().filter(part).collect();
    for file in ["compiled.pt", "under_model.pt", "under_network_legacy.pt", "no_crc32.pt"] {
        let other = open(file);
        assert_eq!(other.names().collect::<Vec<_>>(), expected, "{file}");
        for name in &expected {
            assert_eq!(other.info(name), plain.info(name), "{file}: {name}");
            let (mut a, mut b) = (Vec::new(), Vec::new());
            other.read_raw(name, &mut a).unwrap();
            plain.read_raw(name, &mut b).unwrap();
            assert_eq!(a, b, "{file}: {name}");
        }
    }
}

/// An entry of a pickled dict: a key and its value.
fn entry(key: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (text(key), value.to_vec())
}

/// A float32 tensor of one element.
fn one() -> Vec<u8> {
    tensor("0", 1, 0, &[1], &[1])
}

fn one_storage(objects: &[u8]) -> Vec<u8> {
    legacy(objects, &[("0", &[1.0])])
}

#[test]
fn the_entry_with_the_networks_names_is_taken() {
    let network = dict("net._orig_mod.scratch.head1.bias", &one());
    let other = dict("weight", &one());
    let names = |entries: &[(Vec<u8>, Vec<u8>)]| {
        let checkpoint = open_bytes(&one_storage(&dict_of(entries))).unwrap();
        checkpoint.names().map(str::to_owned).collect::<Vec<_>>()
    };
    let beside = |key: &str| [entry("epoch", &int(3)), entry("x", &other), entry(key, &network)];
    for key in ["model", "ema", "network", "weights", "model_state_dict", "state_dict"] {
        assert_eq!(names(&beside(key)), ["scratch.head1.bias"], "{key}");
    }
    // A state_dict without the network's names gives way, one with them does not; nor do names in the root itself.
    assert_eq!(names(&[entry("state_dict", &other), entry("ema", &network)]), ["scratch.head1.bias"]);
    assert_eq!(names(&[entry("state_dict", b"N"), entry("ema", &network)]), ["scratch.head1.bias"]);
    let second = dict("scratch.head1.weight", &one());
    assert_eq!(names(&[entry("ema", &second), entry("state_dict", &network)]), ["scratch.head1.bias"]);
    assert_eq!(names(&[entry("ema", &second), entry("scratch.a", &one())]), ["scratch.a"]);
    // Where there is no network at all, tensors are read as ever.
    assert_eq!(names(&[entry("state_dict", &other), entry("ema", &other)]), ["weight"]);
}

#[test]
fn what_is_there_is_named_where_no_network_is() {
    let network = dict("scratch.head1.bias", &one());
    // A tensor in a list is never looked for; here it keeps the file's storage in use.
    let list = [b"](".to_vec(), one(), b"e".to_vec()].concat();
    let refused = |entries: &[(Vec<u8>, Vec<u8>)], words: &str| {
        let message = refusal(&one_storage(&dict_of(&[entries, &[entry("unread", &list)]].concat())));
        assert!(message.contains(words), "{message}");
    };
    refused(
        &[entry("model", &network), entry("ema", &network)],
        "several networks, in its entries model, ema; save one",
    );
    refused(
        &[entry("a", &int(1)), entry("b", &dict("model", &network))],
        "its network in b.model, deeper than is read",
    );
    refused(&[entry("state_dict", &dict("model", &network))], "its network in state_dict.model,");
    let resnet = dict("conv1.weight", &one());
    refused(
        &[entry("epoch", &int(3)), entry("model", &resnet)],
        "its tensors are in model, the first of them is conv1.weight",
    );
    let module = b"cmodels\nNet\n)R";
    refused(
        &[entry("epoch", &int(3)), entry("model", module)],
        "holds no tensors, only epoch (int), model (models.Net), unread (list);",
    );
    refused(&[entry("state_dict", module), entry("epoch", b"N")], "its state_dict is an object of class models.Net");
}

#[test]
fn hyper_parameters_are_read_from_dicts_and_attribute_objects() {
    let expected = HyperParameters {
        arch_option: Some(HyperParameter::Number(1)),
        block_depth: Some(HyperParameter::Number(2)),
        activation: Some(HyperParameter::Text("lrelu".to_owned())),
    };
    assert_eq!(*open("lightning.ckpt").hyper_parameters(), expected);
    assert_eq!(*open("lightning_namespace.ckpt").hyper_parameters(), expected);
    // Empty, and absent.
    assert_eq!(*open("lightning_vit.ckpt").hyper_parameters(), HyperParameters::default());
    assert_eq!(*open("formats.pt").hyper_parameters(), HyperParameters::default());
}

#[test]
fn hyper_parameters_inside_unknown_objects_are_named() {
    let weight = dict("w", &tensor("0", 1, 0, &[1], &[1]));
    let hidden = [b"comegaconf\nDictConfig\n".as_slice(), &text("?"), b"\x85R"].concat();
    let root = [b"}(".to_vec(), text("state_dict"), weight, text("hyper_parameters"), hidden, b"u".to_vec()].concat();
    let checkpoint = open_bytes(&legacy(&root, &[("0", &[1.0])])).unwrap();
    let inert = Some(HyperParameter::Inert("omegaconf.DictConfig".to_owned()));
    assert_eq!(checkpoint.hyper_parameters().arch_option, inert);
    assert_eq!(checkpoint.hyper_parameters().activation, inert);
}

#[test]
fn wrappers_come_off_and_two_networks_are_refused() {
    let one = |name: &str| [text(name), tensor("0", 1, 0, &[1], &[1])].concat();
    let file = |names: &[&str]| {
        let entries: Vec<u8> = names.iter().flat_map(|name| one(name)).collect();
        legacy(&[b"}(".as_slice(), &entries, b"u"].concat(), &[("0", &[1.0])])
    };
    let prefixes = [
        "",
        "net.",
        "module.",
        "model.",
        "module.net.",
        "_orig_mod.",
        "net._orig_mod.",
        "_orig_mod.module.model.",
        "module._orig_mod.net._orig_mod.",
    ];
    for prefix in prefixes {
        let bytes =
            file(&[&format!("{prefix}scratch.head1.bias"), &format!("{prefix}pretrained.model.x"), "loss.weight"]);
        let checkpoint = open_bytes(&bytes).unwrap();
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["loss.weight", "pretrained.model.x", "scratch.head1.bias"]);
    }
    // A part may be compiled alone, but no tensor may be there twice.
    assert!(open_bytes(&file(&["net.scratch.a", "net._orig_mod.scratch.b"])).is_ok());
    for names in
        [["net.scratch.a", "scratch.a"], ["scratch.a", "_orig_mod.scratch.a"], ["scratch._orig_mod.a", "scratch.a"]]
    {
        let message = refusal(&file(&names));
        assert!(message.contains("two networks"), "{message}");
    }
}

#[test]
fn files_in_other_byte_orders_compressions_and_forms_are_refused_by_name() {
    let message = |name: &str| Checkpoint::open(&fixture(name)).err().unwrap().to_string();
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
    let message = beside.read_f32("e", &[2], &mut Vec::new()).unwrap_err().to_string();
    assert!(message.contains("posix.system"), "{message}");
    let message = Checkpoint::open(&fixture("evil_state_dict.ckpt")).err().unwrap().to_string();
    assert!(message.contains("posix.system"), "{message}");
    assert!(!std::path::Path::new("lseg_fast_executed_a_checkpoint").exists());
}

#[test]
fn what_is_no_checkpoint_is_told_so() {
    assert!(refusal(b"").contains("is empty"));
    assert!(refusal(b"<!DOCTYPE html><html>").contains("web page"));
    assert!(refusal(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n").contains("git lfs pull"));
    assert!(refusal(b"\x1f\x8b\x08\x00rest").contains("gzip"));
    assert!(refusal(b"hello there").contains("68 65 6c 6c"));
    assert!(refusal(b"\x80\x03}.").contains("not a checkpoint"));
    assert!(refusal(&torch_zip(b"\x80\x02}.", &[])).contains("no tensors"));
    let missing = Checkpoint::open("no/such/file".as_ref()).err().unwrap();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
    let folder = Checkpoint::open(env!("CARGO_MANIFEST_DIR").as_ref()).err().unwrap().to_string();
    assert!(folder.contains("is a folder"), "{folder}");
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

/// A second entry of a name would win over the first, which scanners may look at.
#[test]
fn a_zip_with_two_entries_of_one_name_is_refused() {
    let pickle = [b"\x80\x02".as_slice(), &dict("t", &tensor("0", 1, 0, &[1], &[1])), b"."].concat();
    let other = [b"\x80\x02".as_slice(), &dict("t", b"N"), b"."].concat();
    let mut bytes = torch_zip(&pickle, &[("0".to_owned(), vec![0; 4]), ("PKL".to_owned(), other)]);
    assert!(open_bytes(&bytes).is_ok());
    while let Some(at) = bytes.windows(10).position(|part| part == b"m/data/PKL") {
        bytes[at..at + 10].copy_from_slice(b"m/data.pkl");
    }
    let message = refusal(&bytes);
    assert!(message.contains("two entries of one name"), "{message}");
}

#[test]
fn a_zip_whose_storages_lie_on_each_other_is_refused() {
    let pickle = dict_of(&[entry("a", &tensor("0", 4, 0, &[4], &[1])), entry("b", &tensor("1", 1, 0, &[1], &[1]))]);
    // The first storage is so long that it reaches over the second's header to its bytes.
    let pickle = [b"\x80\x02".as_slice(), &pickle, b"."].concat();
    let mut bytes = torch_zip(&pickle, &[("0".to_owned(), vec![0; 16]), ("1".to_owned(), vec![0; 4])]);
    assert!(open_bytes(&bytes).is_ok());
    let headers = bytes.windows(4).enumerate().filter(|(_, part)| *part == b"PK\x01\x02");
    let header = headers.map(|(at, _)| at).nth(1).unwrap();
    for size in [20, 24] {
        bytes[header + size..header + size + 4].copy_from_slice(&80u32.to_le_bytes());
    }
    let message = refusal(&bytes);
    assert!(message.contains("on top of each other"), "{message}");
}

/// A flipped bit in any storage is found by who reads a tensor of it, all of it or a part, as bytes or as floats.
#[test]
fn a_damaged_storage_is_found_by_its_checksum() {
    for file in ["formats.pt", "formats_old_zip.pt", "formats_protocol4.pt"] {
        let bytes = std::fs::read(fixture(file)).unwrap();
        for (entry, place) in zip_places(&bytes).into_iter().filter(|(name, _)| name.contains("/data/")).step_by(3) {
            let mut bytes = bytes.clone();
            let Some(last) = bytes[place].last_mut() else { continue };
            *last ^= 1;
            let checkpoint = open_bytes(&bytes).unwrap();
            let errors = |read: &dyn Fn(&str) -> Result<(), Error>| {
                let messages: Vec<String> =
                    checkpoint.names().filter_map(|name| read(name).err()).map(|error| error.to_string()).collect();
                messages.into_iter().filter(|message| message.contains("checksum")).count()
            };
            let floats =
                errors(&|name| checkpoint.read_f32(name, &checkpoint.info(name).unwrap().shape, &mut Vec::new()));
            let raw = errors(&|name| checkpoint.read_raw(name, &mut Vec::new()));
            assert!(raw >= 1 && floats <= raw, "{file}: {entry}: {raw}, {floats}");
        }
    }
}

#[test]
fn a_file_that_was_written_to_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pt");
    let bytes = std::fs::read(fixture("formats.pt")).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    checkpoint.unchanged().unwrap();
    // Another file in its place is another file: ours is still what it was.
    std::fs::write(folder.path().join("new"), "other").unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    checkpoint.unchanged().unwrap();

    std::fs::write(&path, &bytes).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    // A file's time has steps of some milliseconds.
    std::thread::sleep(Duration::from_millis(30));
    std::fs::write(&path, &bytes).unwrap();
    let message = checkpoint.unchanged().unwrap_err().to_string();
    assert!(message.contains("was written to while it was read"), "{message}");
}

#[test]
fn a_damaged_pickle_is_found_by_its_checksum() {
    let mut bytes = std::fs::read(fixture("formats.pt")).unwrap();
    let at = bytes.windows(5).position(|w| w == b"every").unwrap();
    bytes[at] ^= 1;
    assert!(refusal(&bytes).contains("checksum"));
}

/// Pickles that try to exhaust the reader. Each is refused or inert, soon.
#[test]
fn pickle_bombs_are_harmless() {
    let weight = [text("w"), tensor("0", 1, 0, &[1], &[1])].concat();
    // A dict with the bomb beside a good tensor: the file loads.
    let beside = |bomb: &[u8]| {
        let objects = [b"}(".to_vec(), text("b"), bomb.to_vec(), weight.clone(), b"u".to_vec()].concat();
        let started = Instant::now();
        let checkpoint = open_bytes(&legacy(&objects, &[("0", &[1.0])])).unwrap();
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["w"]);
        drop(checkpoint);
        assert!(started.elapsed() < Duration::from_secs(2));
    };
    // A list that contains itself; a dict that is its own key; an object whose class and state are itself.
    beside(b"]q\x01h\x01a");
    beside(b"}q\x01h\x01h\x01s");
    beside(b"cx\ny\n)R\x94q\x01h\x01b");
    // A million lists inside each other, and as many calls of calls.
    let nested = [vec![b']'; 1_000_000], vec![b'a'; 999_999]].concat();
    beside(&nested);
    beside(&[b"cx\ny\n".to_vec(), b")R".repeat(900_000)].concat());

    let refused = |objects: &[u8], expected: &str| {
        let started = Instant::now();
        let message = refusal(&legacy(objects, &[]));
        assert!(message.contains(expected), "{message}");
        assert!(started.elapsed() < Duration::from_secs(2));
    };
    refused(&[b"N".to_vec(), vec![b'2'; 9_000_000]].concat(), "steps");
    refused(&vec![b'N'; 3_000_000], "objects");
    // Lengths beyond the file.
    refused(b"X\xff\xff\xff\xffabc", "ends in the middle");
    refused(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc", "ends in the middle");
    refused(b"\x8b\xff\xff\xff\xffabc", "ends in the middle");
    // Empty stacks, missing marks, unset memo entries, unknown opcodes.
    for (objects, expected) in [
        (b"0".as_slice(), "empty stack"),
        (b"t", "empty stack"),
        (b"(\x85", "empty stack"),
        (b"R", "empty stack"),
        (b"h\x07", "memo entry 7"),
        (b"(Nd", "key without a value"),
        (b"N(NNu", "what is no dict"),
        (b"\x97", "opcode 0x97"),
        (b"\xff", "opcode 0xff"),
        (b"\x80\x09", "protocol 9"),
        (b"NN\x93", "no text"),
    ] {
        refused(objects, expected);
    }
}

/// Dicts in which a network is looked for, to no end.
#[test]
fn dict_bombs_are_harmless() {
    let many = |count: usize, value: &[u8]| {
        let key = [text("k"), b"q\x01".to_vec(), value.to_vec(), b"q\x02".to_vec()].concat();
        [b"}(".to_vec(), key, b"h\x01h\x02".repeat(count - 1), b"u".to_vec()].concat()
    };
    let wide = many(90_000, b"N");
    let pairs = [b"](".to_vec(), b"]".to_vec(), b"2".repeat(900_000), b"e".to_vec()].concat();
    let ordered = [b"ccollections\nOrderedDict\nq\x05".to_vec(), pairs, b"\x85q\x06R".to_vec()].concat();
    let bombs = [
        many(1_000_000, b"}"),
        many(1_000_000, &wide),
        many(1_000_000, &dict("k", &dict("k", &dict("k", &wide)))),
        // A hundred thousand dicts made of one list of a million pairs.
        [
            b"}(".to_vec(),
            text("a"),
            ordered,
            (0..100_000).flat_map(|_| b"h\x05h\x06R".to_vec()).collect(),
            b"u".to_vec(),
        ]
        .concat(),
        // A dict in itself, a thousand times.
        [b"}q\x01(".to_vec(), [text("k"), b"h\x01".to_vec()].concat().repeat(1000), b"u".to_vec()].concat(),
        // Distinct dicts.
        [b"}(".to_vec(), [text("k"), b"}".to_vec()].concat().repeat(600_000), b"u".to_vec()].concat(),
    ];
    for (i, bomb) in bombs.iter().enumerate() {
        for objects in [bomb.clone(), dict("model", bomb), dict("state_dict", bomb)] {
            let started = Instant::now();
            let message = refusal(&legacy(&objects, &[]));
            assert!(message.contains("no tensors") || message.contains("more than 100000 entries"), "{i}: {message}");
            assert!(started.elapsed() < Duration::from_secs(2), "{i}: {:?}", started.elapsed());
        }
    }
}

/// The state dict itself may be a bomb: it refers to itself.
#[test]
fn a_state_dict_inside_itself_is_refused() {
    let itself = [b"}q\x01".to_vec(), text("state_dict"), b"h\x01s".to_vec()].concat();
    assert!(refusal(&legacy(&itself, &[])).contains("no tensors"));
}

/// A file cut anywhere is refused: none of the formats may lack its end.
#[test]
fn a_cut_file_is_an_error() {
    let (_, tensors) = foreign();
    let small: Vec<_> = tensors.into_iter().filter(|(_, _, shape, _)| shape.iter().product::<usize>() < 20).collect();
    let files = FORMATS.map(|name| std::fs::read(fixture(name)).unwrap()).into_iter();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut");
    for bytes in files.chain([safetensors(&small, None)]) {
        for len in (0..bytes.len()).step_by(bytes.len() / 600 + 1) {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let error = Checkpoint::open(&path).err();
            assert!(matches!(error, Some(Error::Checkpoint { .. })), "{len} of {}: {error:?}", bytes.len());
        }
    }
}

#[test]
fn a_file_cut_after_opening_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for name in FORMATS {
        let path = folder.path().join(name);
        std::fs::copy(fixture(name), &path).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(600).unwrap();
        for tensor in ["shared_a", "transposed"] {
            let shape = checkpoint.info(tensor).unwrap().shape.clone();
            let message = checkpoint.read_f32(tensor, &shape, &mut Vec::new()).unwrap_err().to_string();
            assert!(message.contains("cut short"), "{message}");
        }
    }
}

#[test]
fn messages_stay_on_one_line() {
    let call = b"cos\n\x1b[31m\rsystem\n)R".as_slice();
    let message = refusal(&legacy(&dict("state_dict", call), &[]));
    assert!(message.contains("system") && !message.contains(char::is_control), "{message:?}");
}

#[test]
fn one_checkpoint_serves_several_threads() {
    let checkpoint = open("formats.pt");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(floats(&checkpoint, "f32", &[2, 3])[5], 2.5));
        }
    });
}
