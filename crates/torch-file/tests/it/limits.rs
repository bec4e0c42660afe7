//! Objects that try to exhaust the reader.

use std::time::Duration;

use testing::checkpoint::*;
use testing::process::{alone, peak_mib};
use testing::time::{Clock, soon};

use crate::{open_bytes, refusal};

/// The most that the process of a test of bombs may take, with the bombs themselves.
const MOST_MIB: usize = 256;

/// What comes of reading a bomb, which takes no time.
#[track_caller]
fn harmless<T>(read: impl Fn() -> T) -> T {
    soon("a bomb", Clock::Thread, Duration::from_secs(2), read)
}

/// Runs the test of this name alone, within [`MOST_MIB`].
#[track_caller]
fn bounded(test: &str, body: impl FnOnce()) {
    alone(test, || {
        body();
        let peak = peak_mib();
        assert!(peak < MOST_MIB, "{peak} MiB");
    });
}

/// Pickles that try to exhaust the reader. Each is refused or inert, soon.
#[test]
fn pickle_bombs_are_harmless() {
    bounded("limits::pickle_bombs_are_harmless", pickle_bombs);
}

fn pickle_bombs() {
    let weight = [text("w"), tensor("0", 1, 0, &[1], &[1])].concat();
    // A dict with the bomb beside a good tensor: the file loads.
    let beside = |bomb: &[u8]| {
        let objects = [b"}(".to_vec(), text("b"), bomb.to_vec(), weight.clone(), b"u".to_vec()].concat();
        let bytes = legacy(&objects, &[("0", &[1.0])]);
        let names = harmless(|| open_bytes(&bytes).unwrap().names().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(names, ["w"]);
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
        let bytes = legacy(objects, &[]);
        let message = harmless(|| refusal(&bytes));
        assert!(message.contains(expected), "{message}");
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
    bounded("limits::dict_bombs_are_harmless", dict_bombs);
}

fn dict_bombs() {
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
            let bytes = legacy(&objects, &[]);
            let message = harmless(|| refusal(&bytes));
            assert!(message.contains("no tensors") || message.contains("more than 100000 entries"), "{i}: {message}");
        }
    }
}

/// The state dict itself may be a bomb: it refers to itself.
#[test]
fn a_state_dict_inside_itself_is_refused() {
    let itself = [b"}q\x01".to_vec(), text("state_dict"), b"h\x01s".to_vec()].concat();
    assert!(refusal(&legacy(&itself, &[])).contains("no tensors"));
}

/// One long name of a class, which a file gives to all entries and which is longer still where it is shown.
#[test]
fn a_classs_name_is_kept_once() {
    alone("limits::a_classs_name_is_kept_once", || {
        let class = [b"c".to_vec(), "\u{202e}".repeat(300).into_bytes(), b"\ny\nq\x01".to_vec()].concat();
        let others = (0..99_990).flat_map(|i| [text(&i.to_string()), get(1)].concat());
        let weight = [text("w"), tensor("0", 1, 0, &[1], &[1])].concat();
        let objects = [class, b"0}(".to_vec(), others.collect(), weight, b"u".to_vec()].concat();
        let bytes = legacy(&objects, &[("0", &[1.0])]);
        let before = peak_mib();
        let file = open_bytes(&bytes).unwrap();
        assert_eq!(file.others().len(), 99_990);
        assert!(file.other("7").unwrap().ends_with('…'));
        let more = peak_mib() - before;
        assert!(more < 64, "{} KB took {more} MiB", bytes.len() >> 10);
    });
}
