//! Values of lanes in words, which of their bytes are undefined, and alignment.

use super::lines::lanes;
use super::{Request, Words};
use crate::fault::{BadAccess, Check};

pub(super) fn misaligned(r: &Request<'_>) -> Result<(), BadAccess> {
    let lanes = r.misaligned();
    if lanes == 0 {
        return Ok(());
    }
    let address = r.addresses[lanes.trailing_zeros() as usize];
    let detail = format!("{address:#x} is no multiple of {}, as an access of {0} bytes needs", r.bytes);
    Err(BadAccess { check: Check::Misaligned, lanes, address: Some(address), detail, other: None })
}

pub(super) fn uninitialised(lane: usize, address: u64) -> BadAccess {
    let detail = "an atomic computes with bytes that nothing has written".to_string();
    BadAccess { check: Check::Uninitialised, lanes: 1 << lane, address: Some(address), detail, other: None }
}

/// The lowest `bytes` (1 to 16) of a line.
pub(super) fn part_mask(bytes: usize) -> u16 {
    0xffff >> (16 - bytes)
}

/// Lane `lane`'s value of 1 to 8 bytes.
pub(super) fn value(words: &Words, lane: usize, bytes: usize) -> u64 {
    let low = u64::from(words.bits[0][lane]);
    match bytes {
        8 => low | u64::from(words.bits[1][lane]) << 32,
        4 => low,
        _ => low & ((1 << (8 * bytes)) - 1),
    }
}

pub(super) fn set_value(words: &mut Words, lane: usize, bytes: usize, value: u64, undefined: bool) {
    let both = 1u64 << lane | 1 << (32 + lane);
    for word in 0..bytes.div_ceil(4) {
        words.bits[word][lane] = (value >> (32 * word)) as u32;
        words.undef[word] = if undefined { words.undef[word] | both } else { words.undef[word] & !both };
    }
}

/// Some lane of the request stores an undefined value.
pub(super) fn has_undefined(r: &Request<'_>, from: &Words) -> bool {
    let both = u64::from(r.mask) | u64::from(r.mask) << 32;
    from.undef[..r.bytes.div_ceil(4)].iter().any(|undef| undef & both != 0)
}

/// Which of a lane's bytes are undefined.
pub(super) fn undefined_bytes(bytes: usize, lane: usize, from: &Words) -> u16 {
    let mut undefined = 0;
    for word in 0..bytes.div_ceil(4) {
        let low = (from.undef[word] >> lane & 1) as u16 * 0b0011;
        let high = (from.undef[word] >> (32 + lane) & 1) as u16 * 0b1100;
        undefined |= (low | high) << (4 * word);
    }
    undefined & part_mask(bytes)
}

/// Sets the undefined bits of a load: none when `defined`, else as `undefined(lane)` tells, a bit a byte.
pub(super) fn mark_undefined(
    r: &Request<'_>,
    mask: u32,
    defined: bool,
    into: &mut Words,
    undefined: impl Fn(usize) -> u16,
) {
    let both = u64::from(mask) | u64::from(mask) << 32;
    into.undef[..r.bytes.div_ceil(4)].iter_mut().for_each(|undef| *undef &= !both);
    if defined {
        return;
    }
    for lane in lanes(mask) {
        let undefined = undefined(lane) & part_mask(r.bytes);
        for word in 0..r.bytes.div_ceil(4) {
            let of_word = undefined >> (4 * word);
            let (low, high) = (of_word & 0b0011 != 0, of_word & 0b1100 != 0);
            // A value narrower than a word is undefined as a whole.
            let (low, high) = if r.bytes < 4 { (low || high, low || high) } else { (low, high) };
            into.undef[word] |= u64::from(low) << lane | u64::from(high) << (32 + lane);
        }
    }
}
