//! Passes through shared memory: 32 banks of 4 bytes, each gives one word a wavefront, to all lanes that want it.
//!
//! An access of up to 4 bytes a lane is served as one phase of 32 lanes, of 8 bytes as two of 16, of 16 bytes as four of
//! 8. A phase takes as many wavefronts as some bank must give different words. A phase joins the wavefront before it
//! when that had one, and no bank would have to give a second word (a broadcast of 16 bytes is one wavefront, not four).

use super::Request;
use super::lines::{Lines, is_contiguous, lanes};

const BANKS: usize = 32;
/// No word: shared memory is smaller.
const FREE: u32 = u32::MAX;

/// Wavefronts of an access, and how many its words would fill.
pub(super) fn wavefronts(r: &Request<'_>, lines: &Lines) -> (u64, u64) {
    let words = r.bytes.div_ceil(4);
    if r.mask == u32::MAX && r.bytes >= 4 && is_contiguous(r.addresses, r.bytes as u64) {
        return (words as u64, words as u64);
    }
    let least = lines.words().div_ceil(BANKS as u64);
    let lanes_a_phase = 32 / words as u32;
    let mut count = 0;
    let mut open = None;
    for phase in 0..words as u32 {
        let mask = r.mask & u32::MAX >> (32 - lanes_a_phase) << (phase * lanes_a_phase);
        if mask == 0 {
            continue;
        }
        let joined = open.as_ref().and_then(|banks| join(r, words, mask, banks));
        if joined.is_none() {
            count += serve(r, words, mask);
        }
        open = joined.or_else(|| join(r, words, mask, &[FREE; BANKS]));
    }
    (count, least)
}

/// The banks after one more phase in the same wavefront, if none has to give two words.
fn join(r: &Request<'_>, words: usize, mask: u32, banks: &[u32; BANKS]) -> Option<[u32; BANKS]> {
    let mut banks = *banks;
    for lane in lanes(mask) {
        let first = (r.addresses[lane] / 4) as u32;
        for word in first..first + words as u32 {
            let bank = &mut banks[word as usize % BANKS];
            if *bank != FREE && *bank != word {
                return None;
            }
            *bank = word;
        }
    }
    Some(banks)
}

/// Each wavefront, a bank gives the word that the lowest unserved lane wants of it.
fn serve(r: &Request<'_>, words: usize, mask: u32) -> u64 {
    let mut most = 0;
    let mut rest = [mask; 4];
    while rest[..words].iter().any(|&mask| mask != 0) {
        most += 1;
        let mut banks = [FREE; BANKS];
        for (word, rest) in rest[..words].iter_mut().enumerate() {
            for lane in lanes(*rest) {
                let wanted = (r.addresses[lane] / 4) as u32 + word as u32;
                let bank = &mut banks[wanted as usize % BANKS];
                if *bank == FREE {
                    *bank = wanted;
                }
                if *bank == wanted {
                    *rest &= !(1 << lane);
                }
            }
        }
    }
    most
}

/// Wavefronts of a matrix of eight 16-byte rows; one if they fill the banks.
pub(super) fn matrix_wavefronts(lines: &[u32]) -> u64 {
    let mut groups = 0u32;
    for line in lines {
        groups |= 1 << (line % 8);
    }
    if groups == 0xff {
        return 1;
    }
    let different = |group: u32| {
        let of_group = |i: &usize| lines[*i] % 8 == group && !lines[..*i].contains(&lines[*i]);
        (0..lines.len()).filter(of_group).count() as u64
    };
    (0..8).map(different).max().unwrap_or(0)
}
