//! The zip format: what a directory may say, and its checksums.

use std::time::Duration;

use testing::checkpoint::*;
use testing::time::{Clock, soon};
use torch_file::Error;

use crate::{entry, open_bytes, refusal};

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
            let floats = errors(&|name| checkpoint.read_f32(name, &mut Vec::new()));
            let raw = errors(&|name| checkpoint.read_raw(name, &mut Vec::new()));
            assert!(raw >= 1 && floats <= raw, "{file}: {entry}: {raw}, {floats}");
        }
    }
}

#[test]
fn a_damaged_pickle_is_found_by_its_checksum() {
    let mut bytes = std::fs::read(fixture("formats.pt")).unwrap();
    let at = bytes.windows(5).position(|w| w == b"every").unwrap();
    bytes[at] ^= 1;
    assert!(refusal(&bytes).contains("checksum"));
}

/// PyTorch can leave the checksums out; who asks is told.
#[test]
fn whether_a_tensor_has_a_checksum_is_told() {
    let summed =
        |file: &str| crate::open(file).names().map(|name| crate::open(file).is_summed(name)).collect::<Vec<_>>();
    assert!(!summed("no_crc32.pt").is_empty() && summed("no_crc32.pt").iter().all(|summed| !summed));
    assert!(summed("formats_legacy.pt").iter().all(|summed| !summed));
    let zip = crate::open("formats.pt");
    assert!(zip.is_summed("f32") && zip.is_summed("transposed") && !zip.is_summed("nothing"));
}

/// Each storage's own header is read by a buffer: thousands of them take more than a directory may.
#[test]
fn a_zip_of_thousands_of_small_storages_is_read() {
    const COUNT: usize = 5000;
    let names = (0..COUNT).map(|i| i.to_string());
    let entries: Vec<_> = names.clone().map(|name| entry(&name, &tensor(&name, 1, 0, &[1], &[1]))).collect();
    let pickle = [b"\x80\x02".as_slice(), &dict_of(&entries), b"."].concat();
    let storages: Vec<_> = names.map(|name| (name, 1.5f32.to_le_bytes().to_vec())).collect();
    let bytes = torch_zip(&pickle, &storages);
    let file = soon("a zip of small storages", Clock::Thread, Duration::from_secs(2), || open_bytes(&bytes).unwrap());
    assert_eq!(file.names().len(), COUNT);
    assert_eq!(crate::floats(&file, "4999", &[1]), [1.5]);
}

/// A thousand views of one damaged storage do not read all of it a thousand times.
#[test]
fn a_damaged_storage_is_read_for_its_checksum_once() {
    const ELEMENTS: usize = 16 << 20;
    let view = |i: i64| entry(&i.to_string(), &tensor("0", ELEMENTS as i64, i, &[1], &[1]));
    let pickle = [b"\x80\x02".as_slice(), &dict_of(&(0..1000).map(view).collect::<Vec<_>>()), b"."].concat();
    let mut bytes = torch_zip(&pickle, &[("0".to_owned(), vec![0; 4 * ELEMENTS])]);
    let place = zip_places(&bytes).into_iter().find(|(name, _)| name == "m/data/0").unwrap().1;
    bytes[place.start] ^= 1;
    soon("a damaged storage", Clock::Thread, Duration::from_secs(1), || {
        let file = open_bytes(&bytes).unwrap();
        for name in file.names() {
            let message = file.read_f32(name, &mut Vec::new()).unwrap_err().to_string();
            assert!(message.contains("checksum"), "{message}");
        }
    });
}
