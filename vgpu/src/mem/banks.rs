//! Passes through shared memory: 32 banks of 4 bytes, each gives one word a wavefront, to all lanes that want it.
//!
//! An access of up to 4 bytes a lane is served as one phase of 32 lanes, of 8 bytes as two of 16, of 16 bytes as four of
//! 8. A phase takes as many wavefronts as some bank must give different words. A phase joins the wavefront before it
//! when that had one, and no bank would have to give a second word (a broadcast of 16 bytes is one wavefront, not four).

use super::Request;
use super::lines::{Lines, lanes};

const BANKS: usize = 32;
/// No word: shared memory is smaller.
const FREE: u32 = u32::MAX;

/// Wavefronts of an access, and how many its words would fill.
pub(super) fn wavefronts(r: &Request<'_>, lines: &Lines) -> (u64, u64) {
    let words = r.bytes.div_ceil(4);
    if lines.contiguous && r.bytes >= 4 {
        return (words as u64, words as u64);
    }
    let count = match words {
        1 => phases::<32>(r),
        2 => phases::<16>(r),
        _ => phases::<8>(r),
    };
    (count, lines.words().div_ceil(BANKS as u64))
}

/// Accesses are aligned, so that each takes one of GROUPS groups of neighbouring banks, and a phase has as many lanes.
fn phases<const GROUPS: usize>(r: &Request<'_>) -> u64 {
    let mut count = 0;
    let mut open = None;
    for phase in 0..32 / GROUPS {
        let mask = r.mask & u32::MAX >> (32 - GROUPS) << (phase * GROUPS);
        if mask == 0 {
            continue;
        }
        let joined = open.and_then(|banks| join::<GROUPS>(r, mask, banks));
        if joined.is_some() {
            open = joined;
            continue;
        }
        open = join(r, mask, [FREE; GROUPS]);
        count += if open.is_some() { 1 } else { serve::<GROUPS>(r, mask) };
    }
    count
}

/// What a lane asks for: its place among the pieces that a group of banks gives at once.
#[inline(always)]
fn piece<const GROUPS: usize>(r: &Request<'_>, lane: usize) -> u32 {
    (r.addresses[lane] / (4 * BANKS / GROUPS) as u64) as u32
}

/// The groups after one more phase in the same wavefront, if none has to give two pieces.
#[inline(always)]
fn join<const GROUPS: usize>(r: &Request<'_>, mask: u32, mut groups: [u32; GROUPS]) -> Option<[u32; GROUPS]> {
    for lane in lanes(mask) {
        let piece = piece::<GROUPS>(r, lane);
        let group = &mut groups[piece as usize % GROUPS];
        if *group != FREE && *group != piece {
            return None;
        }
        *group = piece;
    }
    Some(groups)
}

/// Each wavefront, a group gives the piece that the lowest unserved lane wants of it.
fn serve<const GROUPS: usize>(r: &Request<'_>, mut rest: u32) -> u64 {
    let mut count = 0;
    while rest != 0 {
        count += 1;
        let mut groups = [FREE; GROUPS];
        for lane in lanes(rest) {
            let piece = piece::<GROUPS>(r, lane);
            let group = &mut groups[piece as usize % GROUPS];
            if *group == FREE {
                *group = piece;
            }
            if *group == piece {
                rest &= !(1 << lane);
            }
        }
    }
    count
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
