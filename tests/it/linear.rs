//! Files that say much in few bytes. Whatever one says, to read it takes time and memory in proportion to its size.

use std::time::Duration;

use lseg_fast::checkpoint::Checkpoint;
use testing::checkpoint::*;
use testing::models::*;
use testing::time::{Clock, soon};

/// What a file of a few megabytes may take, without optimisation.
const LONGEST: Duration = Duration::from_secs(1);

/// The entries of a state dict that refer to one value, under names of their own.
const ENTRIES: usize = 30_000;

const CHAIN: usize = 300_000;

/// Opens a file in no more than the time allowed.
#[track_caller]
fn opened(bytes: &[u8]) -> Result<Checkpoint, lseg_fast::Error> {
    soon(format_args!("{} bytes", bytes.len()), Clock::Thread, LONGEST, || open_bytes(bytes))
}

#[track_caller]
fn refused(bytes: &[u8], reason: &str) {
    let Err(error) = opened(bytes) else { panic!("it was opened") };
    let message = error.to_string();
    assert!(message.contains(reason) && message.len() < 1000, "{message}");
}

fn one() -> Vec<u8> {
    tensor("0", 1, 0, &[1], &[1])
}

/// An old file with one storage, whose objects are a good tensor `w` and these entries after it; what stands before is in
/// the memo.
fn beside_a_tensor(before: &[u8], entries: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let entries: Vec<u8> = entries.flatten().collect();
    let objects = [before, b"0}(".as_slice(), &text("w"), &one(), &entries, b"u"].concat();
    legacy(&objects, &[("0", &[1.0])])
}

/// `ENTRIES` names, each with this value.
fn names(value: Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    (0..ENTRIES).map(move |i| [text(&format!("name{i}")), value.clone()].concat())
}

/// An object whose class is an object whose class …, in memo entry 1.
fn chain_of_classes() -> Vec<u8> {
    put(1, &[b"cx\ny\n".to_vec(), b")R".repeat(CHAIN)].concat())
}

#[test]
fn a_chain_of_classes_is_walked_once() {
    let checkpoint = opened(&beside_a_tensor(&chain_of_classes(), names(get(1)))).unwrap();
    let message = checkpoint.check("name7", &[1]).unwrap_err().to_string();
    assert!(message.contains("of class x.y"), "{message}");
    // As what is called, as what a type is, as what settings are.
    opened(&beside_a_tensor(&chain_of_classes(), names(b"h\x01)R".to_vec()))).unwrap();
    let typed = [b"ctorch._utils\n_rebuild_tensor_v3\n(NNNNNN".as_slice(), b"h\x01tR"].concat();
    opened(&beside_a_tensor(&chain_of_classes(), names(typed))).unwrap();
    opened(&beside_a_tensor(&chain_of_classes(), [[text("hyper_parameters"), get(1)].concat()].into_iter())).unwrap();
}

#[test]
fn a_parameter_is_two_deep_at_most() {
    let parameter = |value: &[u8]| [b"ctorch._utils\n_rebuild_parameter\n(".as_slice(), value, b"\x89NtR"].concat();
    let entries = [
        [text("one"), parameter(&one())].concat(),
        [text("two"), parameter(&parameter(&one()))].concat(),
        [text("three"), parameter(&parameter(&parameter(&one())))].concat(),
    ];
    let checkpoint = opened(&beside_a_tensor(b"N", entries.into_iter())).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["one", "two", "w"]);
    let message = checkpoint.check("three", &[1]).unwrap_err().to_string();
    assert!(message.contains("torch._utils._rebuild_parameter"), "{message}");

    // f = _rebuild_parameter; x = f(x), again and again
    let before = [put(0, b"ctorch._utils\n_rebuild_parameter\n"), b"0".to_vec(), put(1, &one())].concat();
    let deep = put(1, &[before, b"q\x020h\x00h\x02\x85R".repeat(CHAIN)].concat());
    opened(&beside_a_tensor(&deep, names(get(1)))).unwrap();
}

#[test]
fn storages_are_counted_and_walk_no_chain() {
    let storage =
        |class: &[u8]| [b"(".as_slice(), &text("storage"), class, &text("0"), &text("cpu"), &int(1), b"tQ0"].concat();
    let chained = [chain_of_classes(), storage(b"h\x01").repeat(ENTRIES)].concat();
    refused(&beside_a_tensor(&chained, [].into_iter()), "storages of x.y are not known");

    // One name of a storage, a hundred thousand times: 3 bytes each.
    let named = storage(b"ctorch\nFloatStorage\n");
    let tuple = put(1, &named[..named.len() - 2]);
    let many = |count: usize| beside_a_tensor(&[tuple.clone(), b"h\x01Q0".repeat(count)].concat(), [].into_iter());
    opened(&many(90_000)).unwrap();
    refused(&many(100_000), "more than 100000 storages");
    refused(&many(1_500_000), "more than 100000 storages");
}

/// Long names and classes that a file holds once and refers to again and again.
#[test]
fn long_texts_are_not_copied_for_each_reference() {
    let long = "n".repeat(1000);
    let network = format!("{}scratch.{}", "net.".repeat(240), "n".repeat(30));
    for name in [&long, &network] {
        // One key, many values; then one key in many dicts.
        let before = put(1, &text(name));
        opened(&beside_a_tensor(&before, (0..90_000).map(|_| b"h\x01N".to_vec()))).unwrap();
        let dicts = |i| [text(&format!("d{i}")), b"}h\x01Ns".to_vec()].concat();
        opened(&beside_a_tensor(&before, (0..49_000).map(dicts))).unwrap();
        // Dicts four deep, each with the long name, and ever so many in the last.
        let inside = (0..90_000).flat_map(|i| [text(&format!("{i}")), b"}".to_vec()].concat()).collect::<Vec<u8>>();
        let deep = dict(name, &dict(name, &dict(name, &[b"}(".as_slice(), &inside, b"u"].concat())));
        refused(&legacy(&deep, &[]), "no tensors");
    }
    // A class of two long names, in the making of each value.
    let before = [put(1, &text(&long)), put(2, &text(&long))].concat();
    opened(&beside_a_tensor(&before, names(b"h\x01h\x02\x93)R".to_vec()))).unwrap();
    // Two wrappers with names as long.
    let entries =
        ["net.", "model."].map(|wrapper| [text(&format!("{}scratch.x", wrapper.repeat(150))), one()].concat());
    refused(&beside_a_tensor(b"N", entries.into_iter()), "two networks");
}

/// Lists of pairs, and dicts of millions of entries, wherever settings or a network are looked for.
#[test]
fn items_are_counted() {
    let pairs = put(1, &[b"](".to_vec(), b"NN\x86".to_vec(), b"2".repeat(5_000_000), b"e".to_vec()].concat());
    let ordered = put(2, &[pairs, b"0ccollections\nOrderedDict\nh\x01h\x01\x86R".to_vec()].concat());
    let settings = [text("hyper_parameters"), b"cx\ny\nh\x01h\x01\x86Rh\x02h\x02\x86b".to_vec()].concat();
    opened(&beside_a_tensor(&ordered, [settings].into_iter())).unwrap();

    let key = put(1, &text(&"k".repeat(1000)));
    let dict = [key, put(2, &[b"}(".to_vec(), b"h\x01N".repeat(1_500_000), b"u".to_vec()].concat())].concat();
    opened(&beside_a_tensor(&dict, [[text("hyper_parameters"), get(2)].concat()].into_iter())).unwrap();
    refused(&legacy(&dict, &[]), "more than 100000 entries");
}

/// Tensors that each step through all of a storage: an element of each megabyte, or every other element.
#[test]
fn tensors_that_step_over_a_file_are_paid_for() {
    let values = vec![0.5f32; 2 << 20];
    let file = |tensors: usize, shape: i64, stride: i64| {
        let call = tensor("0", values.len() as i64, 0, &[shape], &[stride]);
        let entries: Vec<u8> = (0..tensors).flat_map(|i| [text(&format!("t{i}")), call.clone()].concat()).collect();
        legacy(&[b"}(".as_slice(), &entries, b"u"].concat(), &[("0", &values)])
    };
    for (shape, stride) in [(8, 1 << 18), (1 << 20, 2), (64, 32768)] {
        refused(&file(100, shape, stride), "save the tensors with .contiguous()");
        let checkpoint = opened(&file(20, shape, stride)).unwrap();
        soon(format_args!("{shape} by {stride}"), Clock::Thread, LONGEST, || {
            let mut out = Vec::new();
            for i in 0..20 {
                checkpoint.read_f32(&format!("t{i}"), &[shape as usize], &mut out).unwrap();
                assert!(out.iter().all(|x| *x == 0.5));
            }
        });
    }
}

/// Headers of safetensors files, as large as they may be.
#[test]
fn headers_are_bounded() {
    let file = |header: &str| [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let filled = |start: &str, part: &dyn Fn(usize) -> String, end: &str| {
        let mut header = start.to_owned();
        for i in 0.. {
            let part = part(i);
            if header.len() + part.len() + end.len() > 4 << 20 {
                break;
            }
            header += &part;
        }
        file(&format!("{}{end}", header.trim_end_matches(',')))
    };
    refused(&file(&format!("{{{}}}", " ".repeat(4 << 20))), "its header has 4194306 bytes, at most 4 MiB are read");
    let metadata = filled("{\"__metadata__\":{", &|i| format!("\"{i:x}\":\"\","), "}}");
    refused(&metadata, "more than 1000 entries of metadata");
    let shape = |dimensions: usize| {
        let ones = vec!["1"; dimensions].join(",");
        let header = format!("{{\"t\":{{\"dtype\":\"U8\",\"shape\":[{ones}],\"data_offsets\":[0,1]}}}}");
        [file(&header), vec![0]].concat()
    };
    opened(&shape(16)).unwrap();
    refused(&shape(17), "17 dimensions");
    refused(&shape(2_000_000), "2000000 dimensions");
    let tensors =
        filled("{", &|i| format!("\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}},"), "}");
    assert!(opened(&tensors).unwrap().names().count() > 70_000);
    refused(
        &file(
            "{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
        ),
        "a tensor twice",
    );
    // Texts and depths that only the parser sees.
    refused(&filled("{\"t\":", &|_| "[".to_owned(), ""), "header is damaged");
    refused(&filled("{\"t\":{\"dtype\":\"", &|_| "\\u0041".to_owned(), "\"}}"), "header is damaged");
    refused(&filled("{\"t\":{\"shape\":[", &|_| "0,".to_owned(), "]}}"), "header is damaged");
}
