//! Which of a file's dicts is read, and under which names.

use testing::checkpoint::*;
use torch_file::{Error, Options, TorchFile};

use crate::{entry, open};

/// A float32 tensor of one element, of the storage that [`file`] has.
fn one() -> Vec<u8> {
    tensor("0", 1, 0, &[1], &[1])
}

fn file(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    legacy(&dict_of(entries), &[("0", &[1.0])])
}

fn names(options: &Options, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<String>, Error> {
    let file = options.open_bytes("file", file(entries))?;
    Ok(file.names().map(str::to_owned).collect())
}

#[test]
fn the_state_dict_is_found_where_training_code_puts_it() {
    let found = |entries: &[(Vec<u8>, Vec<u8>)]| names(&Options::new(), entries).unwrap();
    let network = dict("weight", &one());
    assert_eq!(found(&[entry("weight", &one())]), ["weight"]);
    assert_eq!(found(&[entry("epoch", &int(3)), entry("state_dict", &network), entry("ema", &network)]), ["weight"]);
    assert_eq!(found(&[entry("epoch", &int(3)), entry("model", &network)]), ["weight"]);
    // The root's own tensors come before those of its entries.
    assert_eq!(found(&[entry("bias", &one()), entry("model", &network)]), ["bias"]);
    let several = names(&Options::new(), &[entry("model", &network), entry("ema", &network)]).unwrap_err().to_string();
    assert!(several.contains("several networks, in its entries model, ema; save one"), "{several}");
}

#[test]
fn a_dict_is_taken_by_its_keys() {
    let (weight, bias) = (dict("weight", &one()), dict("bias", &one()));
    let entries = [entry("model", &weight), entry("averages", &dict("ema", &bias)), entry("epoch", &int(3))];
    let taken = |keys: &[&str]| names(&Options::new().dict(keys.iter().copied()), &entries);
    assert_eq!(taken(&["model"]).unwrap(), ["weight"]);
    assert_eq!(taken(&["averages", "ema"]).unwrap(), ["bias"]);
    for (keys, words) in [
        (["averages", "model"].as_slice(), "has no entry averages.model"),
        (&["epoch"], "its epoch is an object of class int"),
        (&["epoch", "x"], "has no entry epoch.x"),
        (&["averages"], "holds no tensors (its entry ema is of class dict)"),
    ] {
        let message = taken(keys).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_dict_is_looked_for_by_its_names() {
    let (weight, mine) = (dict("weight", &one()), dict("mine.weight", &one()));
    let options = Options::new().holding(|name| name.starts_with("mine."));
    let found = |entries: &[(Vec<u8>, Vec<u8>)]| names(&options, entries);
    assert_eq!(found(&[entry("state_dict", &weight), entry("b", &mine)]).unwrap(), ["mine.weight"]);
    assert_eq!(found(&[entry("a", &weight), entry("b", &mine)]).unwrap(), ["mine.weight"]);
    // Where none has such a name, the state dict or the root is read as ever.
    assert_eq!(found(&[entry("state_dict", &weight)]).unwrap(), ["weight"]);
    let error = found(&[entry("a", &int(1)), entry("b", &weight)]).unwrap_err();
    assert!(matches!(&error, Error::Elsewhere { dict, first, .. } if dict == "b" && first == "weight"), "{error:?}");
    let deep = found(&[entry("a", &int(1)), entry("b", &dict("c", &mine))]).unwrap_err().to_string();
    assert!(deep.contains("its network in b.c, deeper than is read"), "{deep}");
}

#[test]
fn entries_can_be_renamed_but_not_to_one_name() {
    let open = |names: &[&str]| {
        let entries: Vec<_> = names.iter().map(|name| entry(name, &one())).collect();
        let note = entry("module.note", b"N");
        TorchFile::from_bytes("file", file(&[entries, vec![note]].concat())).unwrap()
    };
    let plain = |name: &str| name.trim_start_matches("module.").to_owned();
    let file = open(&["module.a", "b"]).renamed(plain).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(file.others().collect::<Vec<_>>(), [("note", "None")]);
    let mut values = Vec::new();
    file.read_f32("a", &mut values).unwrap();
    assert_eq!(values, [1.0]);
    for names in [["module.a", "a"], ["a", "note"]] {
        let error = open(&names).renamed(plain).unwrap_err();
        assert!(matches!(&error, Error::SameName { name, .. } if name == names[1]), "{error:?}");
    }
}

#[test]
fn lightnings_files_have_their_state_dicts_names() {
    let file = open("lightning.ckpt");
    assert!(file.names().is_sorted() && file.names().all(|name| file.info(name).is_some()));
    assert_eq!(file.format().to_string(), "PyTorch zip");
    assert_eq!(open("state_dict_legacy.pt").format().to_string(), "PyTorch before 1.6");
    assert!(file.names().any(|name| name.ends_with("scratch.head1.weight")));
}
