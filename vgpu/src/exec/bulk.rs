//! Bulk copies: what is checked when one is asked for. How they go on: [`super::flights`].

use super::block::{Cta, Env};
use super::flights::{Flight, Load, Source, Store, Target, What, pieces};
use super::mbarrier::{Place, place, window_address};
use super::memory::{addresses, fault};
use super::registers::{ALL, Done, Registers};
use super::tensor::tensor_map;
use super::warp::Warp;
use crate::fault::{BadAccess, Check};
use crate::ir::{Address, AtomOp, Bulk, BulkDirection, Order, Slot, Space, Ty};
use crate::mem::tensor_map::{Swizzle, TensorMap};
use crate::mem::{GlobalUse, Request};

/// A value of a register on its way to another block; `reduce`: to be computed with what is there.
pub(super) struct Value {
    pub bytes: usize,
    pub value: [u8; 16],
    pub defined: u16,
    pub reduce: Option<(AtomOp, Ty)>,
}

impl Flight {
    /// `st.async`: a value on its way to a place of the cluster.
    pub fn value(
        cta: &mut Cta<'_>,
        warp: usize,
        lane: usize,
        pc: u32,
        (to, barrier): (Place, Place),
        Value { bytes, value, defined, reduce }: Value,
    ) -> Result<Flight, Box<BadAccess>> {
        if to.rank != barrier.rank {
            let detail = "an asynchronous store whose barrier is not in the block that gets the bytes".to_string();
            return invalid(Some(to.address), detail);
        }
        let who = cta.accessor(warp, to.rank);
        let shared = cta.shared_of(to.rank)?;
        let phase = shared.barrier_at(Some(who), barrier.address)?.phase();
        match reduce {
            None => shared.begin_bulk_write(who, to.address, bytes)?,
            Some(_) => shared.begin_reduction(who, barrier.address, to.address, bytes)?,
        }
        let load = Load {
            from: Source::Value(value, defined, reduce),
            to: to.address,
            bytes,
            targets: 1 << to.rank,
            barrier: barrier.address,
            phases: vec![(to.rank, phase)],
        };
        Ok(Flight { pc, warp, lane, what: What::Load(load) })
    }
}

pub(super) fn invalid<T>(address: Option<u64>, detail: String) -> Result<T, Box<BadAccess>> {
    Err(fault(Check::BulkCopy, ALL, address, detail))
}

pub(super) fn aligned(what: &str, address: u64, to: u64) -> Done {
    if address.is_multiple_of(to) {
        return Ok(());
    }
    Err(fault(
        Check::Misaligned,
        ALL,
        Some(address),
        format!("{what} at {address:#x}, which must be a multiple of {to}"),
    ))
}

/// One lane's operands.
struct Operands<'r, 'a> {
    r: &'r Registers<'a>,
    lane: usize,
}

impl Operands<'_, '_> {
    fn word(&self, slot: Slot) -> Result<u32, Box<BadAccess>> {
        self.r.check(slot, 1 << self.lane)?;
        Ok(self.r.narrow(slot)[self.lane])
    }

    fn address(&self, a: Address) -> Result<u64, Box<BadAccess>> {
        let mut all = [0; 32];
        addresses(self.r, 1 << self.lane, a, &mut all)?;
        Ok(all[self.lane])
    }

    fn shared(&self, (space, a): (Space, Address)) -> Result<u64, Box<BadAccess>> {
        window_address(space, self.address(a)?)
    }

    /// The map and the coordinates.
    fn tile(&self, env: &Env<'_>, cta: &Cta<'_>, bulk: &Bulk) -> Result<(Box<TensorMap>, [i32; 5]), Box<BadAccess>> {
        let at = self.address(bulk.other)?;
        let map = tensor_map(env, cta, at)?;
        let mut coordinates = [0; 5];
        let tile = bulk.tensor.as_ref().map_or(&[][..], |tile| &tile.coordinates);
        if tile.len() != map.rank {
            let detail = format!("{} coordinates for a tensor map of {} dimensions", tile.len(), map.rank);
            return invalid(Some(at), detail);
        }
        for (to, slot) in coordinates.iter_mut().zip(tile) {
            *to = self.word(*slot)? as i32;
        }
        Ok((Box::new(map), coordinates))
    }
}

/// `cp.async.bulk…` by the lanes of `active`, one after the other.
pub(super) fn execute(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    bulk: &Bulk,
    active: u32,
    pc: u32,
) -> Done {
    for lane in (0..32).filter(|l| active >> l & 1 == 1) {
        if bulk.tensor.as_ref().is_some_and(|tile| tile.im2col.is_some()) {
            return invalid(None, "an im2col copy: its maps are not emulated".to_string());
        }
        if bulk.direction == BulkDirection::SharedToCluster && bulk.reduce.is_some() {
            return invalid(None, "a bulk reduction into shared memory: it is not emulated".to_string());
        }
        let operands = Operands { r: &warp.registers, lane };
        let of_lane = |mut bad: Box<BadAccess>| {
            bad.lanes = 1 << lane;
            bad
        };
        match bulk.direction {
            BulkDirection::Prefetch => match bulk.tensor {
                Some(_) => operands.tile(env, cta, bulk).map(drop),
                None => prefetch(cta, warp.index, bulk, &operands),
            },
            BulkDirection::SharedToGlobal => store(env, cta, warp.index, bulk, &operands, pc),
            BulkDirection::GlobalToShared | BulkDirection::SharedToCluster => {
                load(env, cta, warp.index, bulk, &operands, pc)
            }
        }
        .map_err(of_lane)?;
    }
    Ok(())
}

/// Bytes that are only brought to the L2 cache: there they must be.
fn prefetch(cta: &mut Cta<'_>, warp: usize, bulk: &Bulk, operands: &Operands<'_, '_>) -> Done {
    let (from, bytes) = (operands.address(bulk.other)?, plain_bytes(operands, bulk)?);
    aligned("what a bulk prefetch reads", from, 16)?;
    let found = check_global(cta, (warp, operands.lane), Err(from), (0, bytes), GlobalUse::Load)?;
    cta.counts.bulk_prefetch_bytes += found;
    Ok(())
}

/// Bytes of a copy that is no tile.
fn plain_bytes(operands: &Operands<'_, '_>, bulk: &Bulk) -> Result<usize, Box<BadAccess>> {
    let bytes = bulk.bytes.map_or(Ok(0), |slot| operands.word(slot))?;
    if bytes == 0 || !bytes.is_multiple_of(16) {
        return invalid(None, format!("a bulk copy of {bytes} bytes: it must be a multiple of 16"));
    }
    Ok(bytes as usize)
}

fn load(env: &Env<'_>, cta: &mut Cta<'_>, warp: usize, bulk: &Bulk, operands: &Operands<'_, '_>, pc: u32) -> Done {
    let (Some(shared), Some(barrier)) = (bulk.shared, bulk.mbarrier) else {
        return invalid(None, "a bulk copy into shared memory without a barrier".to_string());
    };
    let (to, barrier) = (place(cta, operands.shared(shared)?), place(cta, operands.shared(barrier)?));
    let targets = match bulk.multicast {
        // Of a rank that no cluster has: none.
        None => 1u32.checked_shl(to.rank).unwrap_or(0),
        Some(mask) => operands.word(mask)? & 0xffff,
    };
    if targets == 0 || targets >> cta.peers.len().max(1) != 0 {
        let size = cta.peers.len().max(1);
        let detail = match bulk.multicast {
            Some(_) => format!("a multicast to the blocks {targets:#x} of a cluster of {size}"),
            None => format!("a copy to block {} of a cluster of {size}", to.rank),
        };
        return Err(fault(Check::Cluster, ALL, Some(to.address), detail));
    }
    let (from, bytes) = match bulk.direction {
        BulkDirection::SharedToCluster => {
            let (from, bytes) = (operands.shared((Space::Shared, bulk.other))?, plain_bytes(operands, bulk)?);
            aligned("the source of a bulk copy", from, 16)?;
            let who = cta.accessor(warp, cta.rank);
            cta.shared.check_bulk_read(who, from, bytes, "a bulk copy reads")?;
            let ended = cta.shared.pin_bytes(who, from, bytes, pc, "bulk copy");
            (Source::Shared(from, ended), bytes)
        }
        _ if bulk.tensor.is_some() => {
            let (map, coordinates) = operands.tile(env, cta, bulk)?;
            let bytes = map.box_bytes();
            check_tile_place(cta, to.address, &map)?;
            (Source::Tile(map, coordinates), bytes)
        }
        _ => {
            let (from, bytes) = (operands.address(bulk.other)?, plain_bytes(operands, bulk)?);
            aligned("the source of a bulk copy", from, 16)?;
            (Source::Bytes(from), bytes)
        }
    };
    aligned("the target of a bulk copy", to.address, 16)?;
    let mut phases = Vec::new();
    for rank in (0..16).filter(|rank| targets >> rank & 1 == 1) {
        let who = cta.accessor(warp, rank);
        let shared = cta.shared_of(rank)?;
        phases.push((rank, shared.barrier_at(Some(who), barrier.address)?.phase()));
        shared.check_proxy(who, to.address, bytes, "a bulk copy writes")?;
        shared.begin_bulk_write(who, to.address, bytes)?;
    }
    if bulk.multicast.is_none() && barrier.rank != to.rank {
        let detail = "a bulk copy whose barrier is not in the block that gets the bytes".to_string();
        return invalid(Some(to.address), detail);
    }
    if !matches!(from, Source::Shared(..)) {
        cta.counts.bulk_load_bytes +=
            check_global(cta, (warp, operands.lane), from.tile(), (to.address, bytes), GlobalUse::Load)?;
    }
    cta.counts.bulk_shared_bytes += bytes as u64 * u64::from(targets.count_ones());
    let what = What::Load(Load { from, to: to.address, bytes, targets, barrier: barrier.address, phases });
    cta.start(env, Flight { pc, warp, lane: operands.lane, what })
}

/// Tiles lie at multiples of 128 bytes, whatever their swizzle, which may move lines of 16 within these.
fn check_tile_place(cta: &Cta<'_>, address: u64, map: &TensorMap) -> Done {
    aligned("a tensor's tile in shared memory", address, 128)?;
    let unit = if map.swizzle == Swizzle::None { 1 } else { 128 };
    Ok(cta.shared.check_range(address, map.box_bytes().next_multiple_of(unit))?)
}

/// Bounds, races and counts of the global side; the bytes inside of the tensor.
fn check_global(
    cta: &mut Cta<'_>,
    (warp, lane): (usize, usize),
    tile: Result<(&TensorMap, &[i32; 5]), u64>,
    (shared, bytes): (u64, usize),
    kind: GlobalUse,
) -> Result<u64, Box<BadAccess>> {
    let Cta { global, shared: memory, counts, .. } = &mut *cta;
    global.at(warp, memory);
    let mut check = global.bulk_check(kind);
    let mut failed = None;
    pieces(tile, shared, bytes, |_, address, length| {
        if let Some(address) = address
            && failed.is_none()
        {
            failed = check.piece(address, length).err();
        }
    });
    if let Some(bad) = failed {
        return Err(Box::new(bad));
    }
    let found = check.finish(counts)?;
    let r = Request { addresses: &[0; 32], mask: 1 << lane, bytes: 16 };
    memory.after_global(warp, &r, Order::Weak, kind, global)?;
    Ok(found)
}

fn store(env: &Env<'_>, cta: &mut Cta<'_>, warp: usize, bulk: &Bulk, operands: &Operands<'_, '_>, pc: u32) -> Done {
    let Some(shared) = bulk.shared else { return Ok(()) };
    let from = place(cta, operands.shared(shared)?);
    if from.rank != cta.rank {
        return invalid(Some(from.address), "a bulk store from another block's shared memory".to_string());
    }
    let (to, bytes) = if bulk.tensor.is_some() {
        let (map, coordinates) = operands.tile(env, cta, bulk)?;
        let bytes = map.box_bytes();
        check_tile_place(cta, from.address, &map)?;
        (Target::Tile(map, coordinates), bytes)
    } else {
        let (to, bytes) = (operands.address(bulk.other)?, plain_bytes(operands, bulk)?);
        aligned("the target of a bulk copy", to, 16)?;
        (Target::Bytes(to), bytes)
    };
    aligned("the source of a bulk copy", from.address, 16)?;
    cta.shared.check_range(from.address, bytes)?;
    let who = cta.accessor(warp, cta.rank);
    let mut failed = None;
    pieces(to.tile(), from.address, bytes, |at, address, length| {
        if address.is_some() && failed.is_none() {
            failed = cta.shared.bulk_read(who, at, length, "a bulk copy reads").err();
        }
    });
    if let Some(bad) = failed {
        return Err(Box::new(bad));
    }
    let kind = if bulk.reduce.is_some() { GlobalUse::Atomic } else { GlobalUse::Store };
    cta.counts.bulk_store_bytes += check_global(cta, (warp, operands.lane), to.tile(), (from.address, bytes), kind)?;
    let ended = cta.shared.pin_bytes(who, from.address, bytes, pc, "bulk copy");
    let group = cta.flights.closed[warp][operands.lane];
    let reduce = bulk.reduce.map(|(op, ty)| (op, ty.unwrap_or_else(|| to.element())));
    let what = What::Store(Store { to, from: from.address, bytes, reduce, group, ended, read: None });
    cta.start(env, Flight { pc, warp, lane: operands.lane, what })
}
