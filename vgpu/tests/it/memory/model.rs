//! Random accesses against a map of bytes.

use std::collections::HashMap;

use vgpu_cuda::fault::Check;
use vgpu_cuda::mem::{GlobalMemory, Request, SHARED_START, Words};

use super::fixtures::*;

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// Who reads and writes: a block, a lane of a warp, or a warp whose lanes are in order since.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Block(u32),
    Lane(usize, usize),
    Warp(usize),
}

impl Who {
    fn is_ordered_before(self, later: Who) -> bool {
        self == later || matches!((self, later), (Who::Warp(mine), Who::Lane(warp, _)) if mine == warp)
    }
}

/// Who read or wrote a byte, all since the last barrier.
#[derive(Default, Clone)]
struct Byte {
    value: Option<u8>,
    readers: Vec<Who>,
    writers: Vec<Who>,
}

/// Naive: what an access of `who` must find.
fn model_access(
    bytes: &mut HashMap<u64, Byte>,
    who: impl Fn(usize) -> Who,
    r: &Request<'_>,
    from: Option<&Words>,
) -> bool {
    let asked: Vec<(usize, u64)> = (0..32)
        .filter(|lane| r.mask >> lane & 1 != 0)
        .flat_map(|lane| (0..r.bytes as u64).map(move |i| (lane, i)))
        .collect();
    let clean = asked.iter().all(|&(lane, i)| {
        let byte = bytes.entry(r.addresses[lane] + i).or_default();
        let of_others = |list: &[Who]| list.iter().any(|other| !other.is_ordered_before(who(lane)));
        !of_others(&byte.writers) && (from.is_none() || !of_others(&byte.readers))
    });
    for &(lane, i) in asked.iter().filter(|_| clean) {
        let byte = bytes.entry(r.addresses[lane] + i).or_default();
        match from {
            None => byte.readers.push(who(lane)),
            Some(from) => {
                byte.writers.push(who(lane));
                byte.value = Some((from.bits[i as usize / 4][lane] >> (8 * (i % 4))) as u8);
            }
        }
    }
    clean
}

/// The loaded values and undefined marks are those of the map.
fn check_values(bytes: &HashMap<u64, Byte>, r: &Request<'_>, got: &Words) {
    for lane in (0..32).filter(|lane| r.mask >> lane & 1 != 0) {
        let of = |i: usize| bytes.get(&(r.addresses[lane] + i as u64)).and_then(|byte| byte.value);
        for i in 0..r.bytes {
            let undefined = if r.bytes < 4 {
                (0..r.bytes).any(|i| of(i).is_none())
            } else {
                of(i).is_none() || of(i ^ 1).is_none()
            };
            let mark = got.undef[i / 4] >> (lane + if i % 4 < 2 { 0 } else { 32 }) & 1 != 0;
            assert_eq!(mark, undefined);
            if let Some(value) = of(i) {
                assert_eq!((got.bits[i / 4][lane] >> (8 * (i % 4))) as u8, value);
            }
        }
        assert!(r.bytes >= 4 || got.bits[0][lane] >> (8 * r.bytes) == 0);
    }
}

/// A pattern of addresses in `space` bytes; no two lanes share bytes.
fn pattern(random: &mut Random, space: u64) -> ([u64; 32], u32, usize) {
    let bytes = 1 << random.below(5);
    let slots = space / bytes;
    let first = random.below(slots);
    let stride = 1 + 2 * random.below(4);
    let mask = match random.below(3) {
        0 => ALL,
        1 => 1 << random.below(32),
        _ => random.below(1 << 32) as u32,
    };
    // Odd strides over a power of two of slots: all different, if there are enough.
    let mask = if slots < 32 { mask & ((1 << slots) - 1) } else { mask };
    (lanes(|l| (first + stride * l) % slots * bytes), mask, bytes as usize)
}

fn random_words(random: &mut Random, bytes: usize) -> Words {
    let mut words = Words::ZERO;
    let keep = if bytes < 4 { (1 << (8 * bytes)) - 1 } else { u32::MAX };
    words.bits.iter_mut().flatten().for_each(|bits| *bits = random.below(1 << 32) as u32 & keep);
    words
}

#[test]
fn global_memory_agrees_with_a_map_of_bytes() {
    let (mut races, mut random) = (0, Random(7));
    for communicates in [false, true] {
        let memory = GlobalMemory::new(1 << 20);
        let at = memory.alloc(1024).unwrap();
        let mut bytes = HashMap::new();
        for _ in 0..400 {
            let launch = memory.begin_launch(communicates);
            bytes.values_mut().for_each(|byte: &mut Byte| (byte.readers, byte.writers) = Default::default());
            for _ in 0..random.below(12) {
                let who = random.below(3) as u32;
                let (addresses, mask, width) = pattern(&mut random, 1024);
                let addresses = addresses.map(|a| a + at);
                let r = Request { addresses: &addresses, mask, bytes: width };
                let from = (random.below(2) == 0).then(|| random_words(&mut random, width));
                let clean = model_access(&mut bytes, |_| Who::Block(who), &r, from.as_ref());
                let found = match &from {
                    Some(from) => store(&launch.block(who), &addresses, width, mask, from).map(|_| None),
                    None => load(&launch.block(who), &addresses, width, mask).map(Some),
                };
                assert_eq!(found.is_ok(), clean);
                match found {
                    Ok(Some(got)) => check_values(&bytes, &r, &got),
                    Ok(None) => {}
                    Err(bad) => {
                        races += 1;
                        assert_eq!(bad.check, Check::GlobalRace);
                        break;
                    }
                }
            }
        }
    }
    assert!(races > 200, "{races}");
}

#[test]
fn shared_memory_agrees_with_a_map_of_bytes() {
    let (mut races, mut random) = (0, Random(11));
    for _ in 0..200 {
        let mut s = Shared::new(512, 4);
        let mut bytes = HashMap::new();
        for _ in 0..40 {
            if random.below(3) == 0 {
                s.sync();
                bytes.values_mut().for_each(|byte: &mut Byte| (byte.readers, byte.writers) = Default::default());
            }
            let warp = random.below(4) as usize;
            if random.below(2) == 0 {
                s.sync_warp(warp);
                let order = |who: &mut Who| {
                    if matches!(who, Who::Lane(w, _) if *w == warp) {
                        *who = Who::Warp(warp);
                    }
                };
                bytes.values_mut().for_each(|byte: &mut Byte| {
                    byte.readers.iter_mut().chain(&mut byte.writers).for_each(order);
                });
            }
            let (addresses, mask, width) = pattern(&mut random, 512);
            let shifted = addresses.map(|a| a + SHARED_START);
            let r = Request { addresses: &shifted, mask, bytes: width };
            let from = (random.below(3) == 0).then(|| random_words(&mut random, width));
            let clean = model_access(&mut bytes, |lane| Who::Lane(warp, lane), &r, from.as_ref());
            let found = match &from {
                Some(from) => s.store(warp, width, mask, |l| addresses[l as usize], from).map(|_| None),
                None => s.load(warp, width, mask, |l| addresses[l as usize]).map(Some),
            };
            assert_eq!(found.is_ok(), clean);
            match found {
                Ok(Some(got)) => check_values(&bytes, &r, &got),
                Ok(None) => {}
                Err(bad) => {
                    races += 1;
                    assert_eq!(bad.check, Check::SharedRace);
                    break;
                }
            }
        }
    }
    assert!(races > 100, "{races}");
}
