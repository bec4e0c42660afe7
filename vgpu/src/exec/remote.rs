//! Generic accesses to the shared memory of other blocks of the cluster (distributed shared memory), lane after lane.

use super::block::{Cta, Env};
use super::bulk::Value;
use super::flights::Flight;
use super::mbarrier::{mapped_rank, place};
use super::memory::addresses;
use super::registers::Done;
use super::warp::Warp;
use crate::fault::{BadAccess, Check};
use crate::ir::{Address, AtomOp, Order, Slot, Ty};
use crate::mem::{Words, atomics};

/// Takes the lanes of cluster addresses that lead to the block's own memory out of `active`; the others' stay as they are.
pub(super) fn own_lanes(rank: u32, active: u32, addresses: &mut [u64; 32]) -> u32 {
    let mut own = 0;
    for l in (0..32).filter(|l| active >> l & 1 == 1) {
        if mapped_rank(addresses[l]).is_none_or(|of| of == rank) {
            addresses[l] &= 0xff_ffff;
            own |= 1 << l;
        }
    }
    own
}

fn each_lane(
    cta: &mut Cta<'_>,
    mask: u32,
    bytes: usize,
    mut act: impl FnMut(&mut Cta<'_>, usize, super::mbarrier::Place) -> Done,
) -> Done {
    let addresses = cta.addresses;
    for l in (0..32).filter(|l| mask >> l & 1 == 1) {
        let at = place(cta, addresses[l]);
        if !at.address.is_multiple_of(bytes as u64) {
            let detail = format!("an access of {bytes} bytes at {:#x} of block {} of the cluster", at.address, at.rank);
            let (check, address) = (Check::Misaligned, Some(at.address));
            return Err(Box::new(BadAccess { check, lanes: 1 << l, address, detail, other: None }));
        }
        act(cta, l, at).map_err(|mut bad| {
            bad.lanes = 1 << l;
            bad
        })?;
    }
    Ok(())
}

/// Into `cta.words`.
pub(super) fn load(cta: &mut Cta<'_>, warp: usize, mask: u32, bytes: usize, order: Order) -> Done {
    each_lane(cta, mask, bytes, |cta, l, at| {
        let who = cta.accessor(warp, at.rank);
        let shared = cta.shared_of(at.rank)?;
        shared.remote_load(who, at.address, bytes, order)?;
        let (found, defined) = shared.piece(at.address, bytes);
        for (w, word) in found.chunks_exact(4).enumerate().take(bytes.div_ceil(4)) {
            cta.words.bits[w][l] = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let marks = !defined >> (4 * w);
            let (low, high) = (u64::from(marks & 0b0011 != 0), u64::from(marks & 0b1100 != 0));
            let (low, high) = if bytes < 4 { (low, low) } else { (low, high) };
            let undef = &mut cta.words.undef[w];
            *undef = *undef & !(1 << l | 1 << (l + 32)) | low << l | high << (l + 32);
        }
        Ok(())
    })
}

/// From `cta.words`.
pub(super) fn store(cta: &mut Cta<'_>, warp: usize, mask: u32, bytes: usize, order: Order) -> Done {
    let words = cta.words;
    each_lane(cta, mask, bytes, |cta, l, at| {
        let who = cta.accessor(warp, at.rank);
        let (value, defined) = lane_bytes(&words, l, bytes);
        let shared = cta.shared_of(at.rank)?;
        shared.remote_store(who, at.address, bytes, order)?;
        shared.put_bytes(at.address, &value[..bytes], defined);
        Ok(())
    })
}

/// A lane's bytes, and which are defined.
fn lane_bytes(words: &Words, l: usize, bytes: usize) -> ([u8; 16], u16) {
    let (mut value, mut defined) = ([0; 16], 0);
    for w in 0..bytes.div_ceil(4) {
        value[4 * w..4 * w + 4].copy_from_slice(&words.bits[w][l].to_le_bytes());
        let undef = words.undef[w];
        let marks = (u16::from(undef >> l & 1 == 0) * 0b0011) | (u16::from(undef >> (l + 32) & 1 == 0) * 0b1100);
        defined |= marks << (4 * w);
    }
    (value, defined)
}

/// Of `cta.words` (and `c`), the values before into `cta.old`.
pub(super) fn atomic(
    cta: &mut Cta<'_>,
    warp: usize,
    mask: u32,
    order: Order,
    (op, ty): (AtomOp, Ty),
    c: Option<&Words>,
) -> Done {
    let bytes = ty.bytes();
    let words = cta.words;
    each_lane(cta, mask, bytes, |cta, l, at| {
        let who = cta.accessor(warp, at.rank);
        let value = |words: &Words| u64::from(words.bits[0][l]) | u64::from(words.bits[1][l]) << 32;
        let shared = cta.shared_of(at.rank)?;
        shared.remote_atomic(who, at.address, bytes, order)?;
        let (found, defined) = shared.piece(at.address, bytes);
        let mut before = [0; 8];
        before[..bytes].copy_from_slice(&found[..bytes]);
        let before = u64::from_le_bytes(before);
        if defined & ((1 << bytes) - 1) != (1 << bytes) - 1 && op != AtomOp::Exch {
            let detail = "an atomic computes with bytes that nothing has written".to_string();
            let (check, address) = (Check::Uninitialised, Some(at.address));
            return Err(Box::new(BadAccess { check, lanes: 1 << l, address, detail, other: None }));
        }
        let keep = u64::MAX >> (64 - 8 * bytes);
        let after = atomics::apply(op, ty, before, value(&words) & keep, c.map_or(0, value) & keep, false);
        shared.put_bytes(at.address, &after.to_le_bytes()[..bytes], u16::MAX);
        cta.old.bits[0][l] = before as u32;
        cta.old.bits[1][l] = (before >> 32) as u32;
        cta.old.undef.iter_mut().take(2).for_each(|undef| *undef &= !(1 << l | 1 << (l + 32)));
        Ok(())
    })
}

/// `st.async`, `red.async`: the lanes' values on their way to another block, counted at a barrier there.
pub(super) fn store_async(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    (active, pc): (u32, u32),
    (ty, reduce): (Ty, Option<AtomOp>),
    (a, b, mbarrier): (Address, &[Slot], Address),
) -> Done {
    let (mut to, mut barriers) = ([0; 32], [0; 32]);
    addresses(&warp.registers, active, a, &mut to)?;
    addresses(&warp.registers, active, mbarrier, &mut barriers)?;
    super::memory::gather(&warp.registers, ty, b, &mut cta.words);
    let (words, bytes) = (cta.words, ty.bytes() * b.len());
    cta.addresses = to;
    each_lane(cta, active, bytes, |cta, l, at| {
        let barrier = place(cta, barriers[l]);
        let (value, defined) = lane_bytes(&words, l, bytes);
        let value = Value { bytes, value, defined, reduce: reduce.map(|op| (op, ty)) };
        let flight = Flight::value(cta, warp.index, l, pc, (at, barrier), value)?;
        cta.start(env, flight)
    })
}
