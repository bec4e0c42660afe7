//! What a file says beside its tensors.

use testing::checkpoint::*;
use torch_file::limits::MAX_SETTINGS;
use torch_file::{TorchFile, Value};

use crate::{entry, open, open_bytes};

/// A file with a state dict and these entries beside it.
fn beside(entries: &[(Vec<u8>, Vec<u8>)]) -> TorchFile {
    let state_dict = entry("state_dict", &dict("w", &tensor("0", 1, 0, &[1], &[1])));
    open_bytes(&legacy(&dict_of(&[&[state_dict], entries].concat()), &[("0", &[1.0])])).unwrap()
}

#[test]
fn plain_values_come_as_they_are() {
    let half = [b"G".as_slice(), &0.5f64.to_be_bytes()].concat();
    let file = beside(&[
        entry("epoch", &int(-3)),
        entry("loss", &half),
        entry("old", b"F-2.5e3\n"),
        entry("amp", b"\x88"),
        entry("none", b"N"),
        entry("arch", &text("resnet50")),
        entry("size", &[int(480), int(640), b"\x86".to_vec()].concat()),
        entry("optimizer", &dict("lr", &half)),
        entry("best", &tensor("0", 1, 0, &[1], &[1])),
        entry("sampler", b"crandom\nRandom\n)R"),
        entry("long", &text(&"x".repeat(2000))),
    ]);
    let get = |name: &str| file.settings()[name].clone();
    assert_eq!(get("epoch"), Value::Int(-3));
    assert_eq!(get("epoch").as_float(), Some(-3.0));
    assert_eq!(get("loss").as_float(), Some(0.5));
    assert_eq!(get("old"), Value::Float(-2500.0));
    assert_eq!((get("amp").as_bool(), get("epoch").as_bool(), get("none")), (Some(true), None, Value::None));
    assert_eq!(get("arch").as_text(), Some("resnet50"));
    assert_eq!(get("size").as_list(), Some([Value::Int(480), Value::Int(640)].as_slice()));
    assert_eq!(get("optimizer").get("lr"), Some(&Value::Float(0.5)));
    assert!(
        matches!(get("sampler"), Value::Object { class, entries, .. } if class == "random.Random" && entries.is_empty())
    );
    assert_eq!(get("long"), Value::Other("str".to_owned()));
    // Neither tensors nor the state dict are settings.
    assert!(!file.settings().contains_key("best") && !file.settings().contains_key("state_dict"));
    assert_eq!(file.names().collect::<Vec<_>>(), ["w"]);
}

#[test]
fn hyper_parameters_are_read_from_dicts_and_from_objects_that_carry_them() {
    for (name, class) in [("lightning.ckpt", None), ("lightning_namespace.ckpt", Some("argparse.Namespace"))] {
        let file = open(name);
        assert_eq!(file.hyper_parameter("block_depth").and_then(Value::as_int), Some(2), "{name}");
        assert_eq!(file.hyper_parameter("activation").and_then(Value::as_text), Some("lrelu"), "{name}");
        assert_eq!(file.hyper_parameter("nothing"), None, "{name}");
        if let Some(class) = class {
            assert_eq!(file.settings()["hyper_parameters"].class(), class);
        }
    }
    assert_eq!(open("formats.pt").hyper_parameter("block_depth"), None);
    // An object whose contents are not understood says its class.
    let hidden =
        beside(&[entry("hyper_parameters", &[b"comegaconf\nDictConfig\n".as_slice(), &text("?"), b"\x85R"].concat())]);
    assert_eq!(hidden.settings()["hyper_parameters"], Value::Other("omegaconf.DictConfig".to_owned()));
    // So does a dict that is made of some call's result; one that is empty is just that.
    let call = b"csome\ncall\n)R".as_slice();
    let nothing = Value::Dict([].into());
    for (dict, args, value) in [
        (
            b"ccollections\nOrderedDict\n".as_slice(),
            [call, b"\x85R"].concat(),
            Value::Other("collections.OrderedDict".to_owned()),
        ),
        (
            b"ccollections\ndefaultdict\n",
            [b"N", call, b"\x86R"].concat(),
            Value::Other("collections.defaultdict".to_owned()),
        ),
        (b"ccollections\nOrderedDict\n", b")R".to_vec(), nothing.clone()),
        (b"ccollections\nOrderedDict\n", b"]\x85R".to_vec(), nothing.clone()),
        (b"ccollections\ndefaultdict\n", b"c__builtin__\nint\n\x85R".to_vec(), nothing),
    ] {
        let file = beside(&[entry("hyper_parameters", &[dict, &args].concat())]);
        assert_eq!(file.settings()["hyper_parameters"], value);
    }
}

/// Values in a value, itself among them.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::List(members) => members.iter().map(count).sum(),
        Value::Dict(entries) | Value::Object { entries, .. } => entries.values().map(count).sum(),
        _ => 0,
    }
}

#[test]
fn settings_are_bounded() {
    // A dict in itself; a list of ten lists of ten lists …; more entries than are read.
    let itself = b"}q\x01".iter().copied().chain(text("k")).chain(*b"h\x01s").collect::<Vec<u8>>();
    let tens = |inner: &[u8]| [b"](".to_vec(), inner.to_vec(), b"2".repeat(9), b"e".to_vec()].concat();
    let laughs = (0..9).fold(b"N".to_vec(), |inner, _| tens(&inner));
    let many: Vec<_> = (0..2 * MAX_SETTINGS).map(|i| entry(&format!("k{i}"), b"N")).collect();
    let first = entry("hyper_parameters", &dict("lr", &int(1)));
    let file = beside(&[&[entry("itself", &itself), entry("laughs", &laughs)], many.as_slice(), &[first]].concat());
    let counts = file.settings().values().map(count).sum::<usize>();
    assert!((MAX_SETTINGS / 2..=MAX_SETTINGS + 1).contains(&counts), "{counts}");
    assert!(count(&file.settings()["itself"]) < 10);
    assert_eq!(file.hyper_parameter("lr"), Some(&Value::Int(1)), "it is read first");
}
