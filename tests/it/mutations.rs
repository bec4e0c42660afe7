//! Damaged files: 500 of each kind (more with LSEG_MUTATIONS=N), always the same ones. Each is refused with an
//! error or loads; none panics, takes a second or a gigabyte.
//!
//! A flipped bit in a weight leaves a file that opens (PyTorch's zip has sums, which reading the tensor compares; the other
//! formats have none). Damage that no reader may overlook, a missing end, must be an error; it is counted apart.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::convert::{Options, TargetDtype, convert};
use lseg_fast::model::config::METADATA_KEY;
use lseg_fast::model::detect::{HeadBlockOverride, detect};
use testing::checkpoint::*;
use testing::models::*;
use testing::process::{alone, peak_mib};
use testing::time::{Clock, soon};

/// What any file may take.
const LONGEST: Duration = Duration::from_secs(1);

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// A place in a file of `len` bytes: often near its ends, where the structure is.
    fn place(&mut self, len: usize) -> usize {
        match self.below(4) {
            0 => self.below(len.min(64)),
            1 => self.below(len.min(20_000)),
            2 => len - 1 - self.below(len.min(20_000)),
            _ => self.below(len),
        }
    }
}

/// Damages `bytes`; true where nothing but the file's end is missing.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) -> bool {
    if random.below(8) == 0 {
        bytes.truncate(random.place(bytes.len()));
        return true;
    }
    for _ in 0..1 + random.below(3) {
        let at = random.place(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'.', b'(', b'R'][random.below(8)],
            2 => bytes.truncate(at + 1),
            3 => {
                let from = random.place(bytes.len());
                let piece = bytes[from..bytes.len().min(from + random.below(64))].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let end = bytes.len().min(at + 1 + random.below(16));
                if end - at < bytes.len() {
                    bytes.drain(at..end);
                }
            }
            _ => {
                let number =
                    [0, 1, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX][random.below(8)];
                let width = [2, 4, 8][random.below(3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
        }
    }
    false
}

/// Everything that may be done with a file of a stranger; true if it was opened.
fn use_file(path: &Path) -> bool {
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    let (mut raw, mut floats) = (Vec::new(), Vec::new());
    for name in checkpoint.names() {
        let info = checkpoint.info(name).unwrap();
        if checkpoint.read_raw(name, &mut raw).is_ok() {
            assert_eq!(raw.len(), info.shape.iter().product::<usize>() * (info.dtype.bitsize() / 8));
        }
        if checkpoint.read_f32(name, &info.shape, &mut floats).is_ok() {
            assert_eq!(floats.len(), info.shape.iter().product::<usize>());
        }
    }
    if let Ok(config) = detect(&checkpoint, &HeadBlockOverride::default()) {
        config.validate().unwrap();
    }
    true
}

/// Mutates `file` again and again, `pack` makes a file of the result. In a process of its own, whose peak tells.
fn survive(seed: u64, file: &[u8], pack: impl Fn(Vec<u8>) -> Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, pack(file.to_vec())).unwrap();
    assert!(use_file(&path), "the file itself must open");

    let count = std::env::var("LSEG_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let mut random = Random(seed);
    let mut refused = 0;
    for round in 0..count {
        let mut bytes = file.to_vec();
        let cut = mutate(&mut random, &mut bytes);
        std::fs::write(&path, pack(bytes)).unwrap();
        let opened = soon(format_args!("seed {seed}, round {round}"), Clock::Process, LONGEST, || use_file(&path));
        assert!(!(cut && opened), "seed {seed}, round {round}: a file without its end was opened");
        refused += usize::from(!opened);
    }
    // Most of the mutations hit the structure. If few are refused, the damage is not looked at.
    assert!(refused * 4 > count, "{refused} of {count} were refused");
    assert!(peak_mib() < 1024, "{} MiB", peak_mib());
}

#[test]
fn torch_zips() {
    alone("mutations::torch_zips", || {
        survive(1, &std::fs::read(fixture("lightning.ckpt")).unwrap(), |bytes| bytes);
    });
}

/// Damaged objects in a zip whose checksums are right: what an attacker would make.
#[test]
fn torch_pickles_in_a_good_zip() {
    alone("mutations::torch_pickles_in_a_good_zip", || {
        let mut archive = zip::ZipArchive::new(std::fs::File::open(fixture("lightning.ckpt")).unwrap()).unwrap();
        let (mut pickle, mut storages) = (Vec::new(), Vec::new());
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i).unwrap();
            let name = entry.name().unwrap().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if name.ends_with("/data.pkl") {
                pickle = bytes;
            } else if let Some((_, key)) = name.split_once("/data/") {
                storages.push((key.to_owned(), bytes));
            }
        }
        survive(2, &pickle, |pickle| torch_zip(&pickle, &storages));
    });
}

#[test]
fn torch_files_before_1_6() {
    alone("mutations::torch_files_before_1_6", || {
        survive(3, &std::fs::read(fixture("state_dict_legacy.pt")).unwrap(), |bytes| bytes);
        survive(4, &std::fs::read(fixture("formats_legacy.pt")).unwrap(), |bytes| bytes);
    });
}

#[test]
fn safetensors_of_strangers() {
    alone("mutations::safetensors_of_strangers", || {
        survive(5, &safetensors(&foreign().1, None), |bytes| bytes);
    });
}

#[test]
fn our_own_files() {
    alone("mutations::our_own_files", || {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("m.safetensors");
        let source = open_bytes(&safetensors(&model(&narrow()), Some((METADATA_KEY, "{}".to_owned())))).unwrap();
        let options = Options { out: out.clone(), dtype: TargetDtype::F16 };
        convert(&source, &narrow(), &options, &mut |_, _| {}).unwrap();
        survive(6, &std::fs::read(&out).unwrap(), |bytes| bytes);
    });
}
