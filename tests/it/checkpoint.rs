//! LSeg's checkpoints: in whatever wrappers, with which settings, and what is said of files that are none. (What is read of
//! files in general is tested where it is: crates/torch-file.)

use lseg_fast::Error;
use lseg_fast::checkpoint::{Checkpoint, HyperParameter, HyperParameters};
use testing::checkpoint::*;
use testing::models::*;

fn floats(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Vec<f32> {
    // What a caller's buffer held before must not show through.
    let mut values = vec![99.0; 3];
    checkpoint.read_f32(name, shape, &mut values).unwrap();
    values
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
    let hidden = [
        ("omegaconf.DictConfig", [b"comegaconf\nDictConfig\n".as_slice(), &text("?"), b"\x85R"].concat()),
        ("collections.OrderedDict", b"ccollections\nOrderedDict\ncsome\ncall\n)R\x85R".to_vec()),
    ];
    for (class, hidden) in hidden {
        let weight = dict("w", &tensor("0", 1, 0, &[1], &[1]));
        let root = dict_of(&[(text("state_dict"), weight), (text("hyper_parameters"), hidden)]);
        let checkpoint = open_bytes(&legacy(&root, &[("0", &[1.0])])).unwrap();
        let inert = Some(HyperParameter::Inert(class.to_owned()));
        assert_eq!(checkpoint.hyper_parameters().arch_option, inert);
        assert_eq!(checkpoint.hyper_parameters().activation, inert);
    }
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
