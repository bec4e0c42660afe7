//! Loads, stores, atomics, cp.async and matrix loads: addresses of lanes, windows, elements of registers.

use super::block::{Cta, Env};
use super::registers::{ALL, Done, Registers, halves, lanes_of};
use super::remote;
use super::warp::Warp;
use super::windows::{misconverted, split, wrong_space};
use crate::counts::Counts;
use crate::fault::{BadAccess, Check};
use crate::ir::{Address, AtomOp, Condition, Order, Slot, Space, Ty};
use crate::mem::{GlobalUse, Request, Words};

/// The lanes' addresses: base and offset.
#[inline(always)]
pub(super) fn addresses(r: &Registers<'_>, active: u32, a: Address, out: &mut [u64; 32]) -> Done {
    let offset = a.offset as u64;
    match a.base {
        None => out.fill(offset),
        Some(base) if a.narrow => {
            r.check(base, active).map_err(address_undefined)?;
            let base = r.narrow(base);
            for l in 0..32 {
                out[l] = base[l].wrapping_add(offset as u32) as u64;
            }
        }
        Some(base) => {
            r.check_wide(base, active).map_err(address_undefined)?;
            let base = r.wide(base);
            for l in 0..32 {
                out[l] = base[l].wrapping_add(offset);
            }
        }
    }
    Ok(())
}

#[cold]
fn address_undefined(mut bad: Box<BadAccess>) -> Box<BadAccess> {
    bad.detail = "the address was never written (or was loaded from memory that never was)".to_string();
    bad
}

pub(super) fn fault(check: Check, lanes: u32, address: Option<u64>, detail: String) -> Box<BadAccess> {
    Box::new(BadAccess { check, lanes, address, detail, other: None })
}

/// Loads and stores through generic addresses are counted where they went.
fn count_generic(cta: &mut Cta<'_>, space: Space, store: bool) {
    let n = &mut cta.counts.instructions;
    match (space, store) {
        (Space::Shared | Space::SharedCluster, false) => n.load_shared += 1,
        (Space::Shared | Space::SharedCluster, true) => n.store_shared += 1,
        (Space::Local, _) => n.local += 1,
        (Space::Param | Space::Const, _) => {}
        (_, false) => n.load_global += 1,
        (_, true) => n.store_global += 1,
    }
}

/// What all accesses say about themselves.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub space: Space,
    pub order: Order,
    pub ty: Ty,
}

#[inline(never)]
pub(super) fn load(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    active: u32,
    access: Access,
    d: &[Option<Slot>],
    a: Address,
) -> Done {
    let bytes = access.ty.bytes() * d.len();
    match access.space {
        Space::Param => return load_bytes(&mut warp.registers, active, env.launch.params, access.ty, d, a),
        Space::Const => return load_bytes(&mut warp.registers, active, env.launch.const_bank, access.ty, d, a),
        _ => {}
    }
    addresses(&warp.registers, active, a, &mut cta.addresses)?;
    let parts = split(access.space, cta.rank, active, &mut cta.addresses);
    for (space, mask) in parts.iter() {
        if matches!(space, Space::Param | Space::Const) {
            let bank = if space == Space::Param { env.launch.params } else { env.launch.const_bank };
            load_each(&mut warp.registers, mask, bank, access.ty, d, &cta.addresses)?;
            continue;
        }
        if space == Space::SharedCluster {
            remote::load(cta, warp.index, mask, bytes, access.order)?;
            scatter(&mut warp.registers, mask, access.ty, d, &cta.words);
            continue;
        }
        let Cta { addresses: lanes, words, counts, shared, global, .. } = &mut *cta;
        let r = Request { addresses: lanes, mask, bytes };
        match space {
            Space::Shared => shared.load(warp.index, &r, access.order, words, counts).map_err(misconverted)?,
            Space::Local => {
                counts.local_bytes += bytes as u64 * mask.count_ones() as u64;
                warp.local.load(&r, words).map_err(misconverted)?;
            }
            _ => {
                global.at(warp.index, shared);
                global.load(&r, access.order, words, counts).map_err(wrong_space)?;
                shared.after_global(warp.index, &r, access.order, GlobalUse::Load, global)?;
            }
        }
        scatter(&mut warp.registers, mask, access.ty, d, words);
    }
    if access.space == Space::Generic {
        for (space, _) in parts.iter() {
            count_generic(cta, space, false);
        }
    }
    Ok(())
}

/// From the kernel's parameters or the constant bank.
fn load_bytes(r: &mut Registers<'_>, active: u32, bank: &[u8], ty: Ty, d: &[Option<Slot>], a: Address) -> Done {
    let size = ty.bytes();
    if a.base.is_none() {
        // One address for all lanes.
        for (i, slot) in d.iter().enumerate() {
            let Some(slot) = *slot else { continue };
            let value = element(bank, a.offset as u64, i, size, active)?;
            if ty.is_wide() {
                r.put_wide(slot, active, &[value; 32]);
            } else {
                r.put(slot, active, &[extend(ty, value as u32); 32]);
            }
        }
        return Ok(());
    }
    let mut lanes = [0; 32];
    addresses(r, active, a, &mut lanes)?;
    load_each(r, active, bank, ty, d, &lanes)
}

/// Each lane from its own address.
fn load_each(r: &mut Registers<'_>, active: u32, bank: &[u8], ty: Ty, d: &[Option<Slot>], lanes: &[u64; 32]) -> Done {
    for (i, slot) in d.iter().enumerate() {
        let Some(slot) = *slot else { continue };
        let mut out = [0u64; 32];
        for l in (0..32).filter(|l| active >> l & 1 == 1) {
            out[l] = element(bank, lanes[l], i, ty.bytes(), 1 << l)?;
        }
        if ty.is_wide() {
            r.put_wide(slot, active, &out);
        } else {
            r.put(slot, active, &out.map(|x| extend(ty, x as u32)));
        }
    }
    Ok(())
}

/// The i-th element of `size` bytes from `address` on.
fn element(bank: &[u8], address: u64, i: usize, size: usize, lanes: u32) -> Result<u64, Box<BadAccess>> {
    let start = usize::try_from(address).ok().and_then(|a| a.checked_add(i * size));
    let range = start.and_then(|start| Some(start..start.checked_add(size)?));
    let Some(bytes) = range.and_then(|range| bank.get(range)) else {
        let detail = format!("{size} bytes at {address} of a bank of {}", bank.len());
        return Err(fault(Check::OutOfBounds, lanes, Some(address), detail));
    };
    if !address.is_multiple_of(size as u64) {
        let detail = format!("an access of {size} bytes at {address}");
        return Err(fault(Check::Misaligned, lanes, Some(address), detail));
    }
    let mut word = [0; 8];
    word[..size].copy_from_slice(bytes);
    Ok(u64::from_le_bytes(word))
}

/// An element's register: narrow signed types are sign-extended.
#[inline(always)]
fn extend(ty: Ty, bits: u32) -> u32 {
    match ty {
        Ty::S8 => bits as i8 as i32 as u32,
        Ty::S16 => bits as i16 as i32 as u32,
        Ty::U8 | Ty::E4m3 | Ty::E5m2 => bits & 0xff,
        Ty::U16 | Ty::F16 | Ty::Bf16 | Ty::E4m3x2 | Ty::E5m2x2 => bits & 0xffff,
        _ => bits,
    }
}

/// Loaded words to the elements' slots.
#[inline(always)]
fn scatter(r: &mut Registers<'_>, active: u32, ty: Ty, d: &[Option<Slot>], words: &Words) {
    match ty.bytes() {
        4 => {
            for (i, slot) in d.iter().enumerate() {
                if let Some(slot) = slot {
                    r.put_partly(*slot, active, &words.bits[i], words.undef[i]);
                }
            }
        }
        8 => {
            for (i, slot) in d.iter().enumerate() {
                if let Some(slot) = slot {
                    let (low, high) = (&words.bits[2 * i], &words.bits[2 * i + 1]);
                    let mut out = [0; 32];
                    for l in 0..32 {
                        out[l] = low[l] as u64 | (high[l] as u64) << 32;
                    }
                    r.put_wide_partly(*slot, active, &out, [words.undef[2 * i], words.undef[2 * i + 1]]);
                }
            }
        }
        size => {
            for (i, slot) in d.iter().enumerate() {
                if let Some(slot) = slot {
                    let (word, shift) = (i * size / 4, (i * size % 4 * 8) as u32);
                    let out = words.bits[word].map(|bits| extend(ty, bits >> shift));
                    let half = words.undef[word] >> if shift >= 16 { 32 } else { 0 };
                    r.put_partly(*slot, active, &out, halves(half as u32));
                }
            }
        }
    }
}

/// The elements' slots to words to store.
#[inline(always)]
pub(super) fn gather(r: &Registers<'_>, ty: Ty, b: &[Slot], words: &mut Words) {
    match ty.bytes() {
        4 => {
            for (i, &slot) in b.iter().enumerate() {
                words.bits[i] = *r.narrow(slot);
                words.undef[i] = r.undefined(slot);
            }
        }
        8 => {
            for (i, &slot) in b.iter().enumerate() {
                let x = r.wide(slot);
                let undef = r.undefined_wide(slot);
                for l in 0..32 {
                    words.bits[2 * i][l] = x[l] as u32;
                    words.bits[2 * i + 1][l] = (x[l] >> 32) as u32;
                }
                [words.undef[2 * i], words.undef[2 * i + 1]] = undef;
            }
        }
        size => {
            let mask = if size == 1 { 0xff } else { 0xffff };
            let used = (b.len() * size).div_ceil(4);
            words.bits[..used].fill([0; 32]);
            words.undef[..used].fill(0);
            for (i, &slot) in b.iter().enumerate() {
                let (word, shift) = (i * size / 4, i * size % 4 * 8);
                let x = r.narrow(slot);
                for l in 0..32 {
                    words.bits[word][l] |= (x[l] & mask) << shift;
                }
                let undef = r.undefined(slot) as u32;
                words.undef[word] |= if b.len() * size <= 2 {
                    halves(undef)
                } else {
                    (undef as u64) << if shift >= 16 { 32 } else { 0 }
                };
            }
        }
    }
}

#[inline(never)]
pub(super) fn store(
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    active: u32,
    access: Access,
    a: Address,
    b: &[Slot],
) -> Done {
    addresses(&warp.registers, active, a, &mut cta.addresses)?;
    gather(&warp.registers, access.ty, b, &mut cta.words);
    let bytes = access.ty.bytes() * b.len();
    let parts = split(access.space, cta.rank, active, &mut cta.addresses);
    for (space, mask) in parts.iter() {
        if space == Space::SharedCluster {
            remote::store(cta, warp.index, mask, bytes, access.order)?;
            continue;
        }
        let Cta { addresses: lanes, words, counts, shared, global, .. } = &mut *cta;
        let r = Request { addresses: lanes, mask, bytes };
        match space {
            Space::Shared => shared.store(warp.index, &r, access.order, words, counts).map_err(misconverted)?,
            Space::Local => {
                counts.local_bytes += bytes as u64 * mask.count_ones() as u64;
                warp.local.store(&r, words).map_err(misconverted)?;
            }
            Space::Param | Space::Const => {
                let detail = "parameters and constants cannot be written".to_string();
                return Err(fault(Check::AddressSpace, mask, None, detail));
            }
            _ => {
                global.at(warp.index, shared);
                global.store(&r, access.order, words, counts).map_err(wrong_space)?;
                shared.after_global(warp.index, &r, access.order, GlobalUse::Store, global)?;
            }
        }
    }
    if access.space == Space::Generic {
        for (space, _) in parts.iter() {
            count_generic(cta, space, true);
        }
    }
    Ok(())
}

/// The operation's sources: added or compared, and stored where equal.
pub(super) struct Atomic {
    pub op: AtomOp,
    pub d: Option<Slot>,
    pub b: Slot,
    pub c: Option<Slot>,
}

#[inline(never)]
pub(super) fn atomic(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    active: u32,
    access: Access,
    a: Address,
    what: Atomic,
) -> Done {
    let registers = &mut warp.registers;
    for slot in [Some(what.b), what.c].into_iter().flatten() {
        if access.ty.is_wide() { registers.check_wide(slot, active)? } else { registers.check(slot, active)? }
    }
    addresses(registers, active, a, &mut cta.addresses)?;
    gather(registers, access.ty, &[what.b], &mut cta.words);
    let mut third = Words::ZERO;
    if let Some(c) = what.c {
        gather(registers, access.ty, &[c], &mut third);
    }
    let c = what.c.map(|_| &third);
    if access.order.releases() {
        fence(cta, warp.index, access.order.reaches_blocks());
    }
    let reverse = env.options.schedule & 1 == 1;
    let bytes = access.ty.bytes();
    for (space, mask) in split(access.space, cta.rank, active, &mut cta.addresses).iter() {
        if space == Space::SharedCluster {
            remote::atomic(cta, warp.index, mask, access.order, (what.op, access.ty), c)?;
            if let Some(d) = what.d {
                scatter(&mut warp.registers, mask, access.ty, &[Some(d)], &cta.old);
            }
            continue;
        }
        let Cta { addresses, words, old, counts, shared, global, .. } = &mut *cta;
        let r = Request { addresses, mask, bytes };
        match space {
            Space::Shared => {
                shared
                    .atomic(warp.index, &r, what.op, access.ty, words, c, reverse, old, counts)
                    .map_err(misconverted)?;
            }
            Space::Global => {
                global.at(warp.index, shared);
                global
                    .atomic(&r, access.order, what.op, access.ty, words, c, reverse, old, counts)
                    .map_err(wrong_space)?;
                shared.after_global(warp.index, &r, access.order, GlobalUse::Atomic, global)?;
            }
            _ => {
                let detail = "an atomic operation on memory that is neither global nor shared".to_string();
                return Err(fault(Check::AddressSpace, mask, None, detail));
            }
        }
        if let Some(d) = what.d {
            scatter(&mut warp.registers, mask, access.ty, &[Some(d)], old);
        }
    }
    Ok(())
}

/// `blocks`: of a scope that reaches other blocks.
pub(super) fn fence(cta: &mut Cta<'_>, warp: usize, blocks: bool) {
    cta.shared.fence(warp);
    if blocks {
        cta.global.fence();
    }
}

/// Reads memory for one lane at generic addresses, uncounted.
pub(super) struct Peek<'e, 'c, 'g, 'w> {
    pub env: &'e Env<'e>,
    pub cta: &'c mut Cta<'g>,
    pub warp: &'c Warp<'w>,
    pub lane: usize,
}

impl Peek<'_, '_, '_, '_> {
    /// 1, 4 or 8 bytes.
    pub fn bytes(&mut self, address: u64, bytes: usize) -> Result<u64, Box<BadAccess>> {
        let mut counts = Counts::default();
        let mut words = Words::ZERO;
        let mut lanes = [address; 32];
        let lane = 1 << self.lane;
        for (space, mask) in split(Space::Generic, self.cta.rank, lane, &mut lanes).iter() {
            let r = Request { addresses: &lanes, mask, bytes };
            match space {
                Space::Param => return element(self.env.launch.params, lanes[self.lane], 0, bytes, lane),
                Space::Const => return element(self.env.launch.const_bank, lanes[self.lane], 0, bytes, lane),
                Space::Shared => {
                    self.cta
                        .shared
                        .load(self.warp.index, &r, Order::Weak, &mut words, &mut counts)
                        .map_err(Box::new)?;
                }
                Space::Local => self.warp.local.load(&r, &mut words).map_err(Box::new)?,
                _ => self.cta.global.load(&r, Order::Weak, &mut words, &mut counts).map_err(Box::new)?,
            }
        }
        let used = bytes.div_ceil(4);
        if words.undef[..used].iter().any(|&undef| lanes_of(undef) & lane != 0) {
            let detail = "bytes to be printed that nothing has written".to_string();
            return Err(fault(Check::Uninitialised, lane, Some(address), detail));
        }
        let word = |i: usize| u64::from(words.bits[i][self.lane]);
        Ok(word(0) | if used == 2 { word(1) << 32 } else { 0 })
    }
}

pub(super) struct Copy {
    pub bytes: u8,
    pub dst: Address,
    pub src: Address,
    pub src_size: Option<Slot>,
    pub ignore_src: Option<Condition>,
}

#[inline(never)]
pub(super) fn copy_async(cta: &mut Cta<'_>, warp: &mut Warp<'_>, active: u32, copy: Copy) -> Done {
    let r = &warp.registers;
    let mut sizes = [copy.bytes as u32; 32];
    if let Some(slot) = copy.src_size {
        r.check(slot, active)?;
        sizes = *r.narrow(slot);
        let limit = copy.bytes as u32;
        let above = (0..32).filter(|&l| active >> l & 1 == 1 && sizes[l] > limit).fold(0, |lanes, l| lanes | 1u32 << l);
        if above != 0 {
            let detail = format!("cp.async of {limit} bytes with a source size above that");
            return Err(fault(Check::OutOfBounds, above, None, detail));
        }
    }
    if let Some(condition) = copy.ignore_src {
        let ignored = r.condition(condition, active)?;
        (0..32).filter(|&l| ignored >> l & 1 == 1).for_each(|l| sizes[l] = 0);
    }
    let mut from = [0; 32];
    addresses(r, active, copy.src, &mut from)?;
    let Cta { addresses: to, shared, global, counts, .. } = &mut *cta;
    addresses(r, active, copy.dst, to)?;
    let request = Request { addresses: to, mask: active, bytes: copy.bytes as usize };
    global.at(warp.index, shared);
    shared.cp_async(warp.index, &request, &from, &sizes, global, counts).map_err(misconverted)?;
    let source = Request { addresses: &from, ..request };
    shared.after_global(warp.index, &source, Order::Weak, GlobalUse::Load, global)?;
    Ok(())
}

#[inline(never)]
pub(super) fn load_matrix(cta: &mut Cta<'_>, warp: &mut Warp<'_>, transpose: bool, d: &[Slot], a: Address) -> Done {
    let Cta { addresses: rows, shared, words, counts, .. } = &mut *cta;
    addresses(&warp.registers, row_lanes(d.len()), a, rows)?;
    shared.ldmatrix(warp.index, rows, d.len(), transpose, words, counts).map_err(misconverted)?;
    for (i, &slot) in d.iter().enumerate() {
        warp.registers.put_partly(slot, ALL, &words.bits[i], words.undef[i]);
    }
    Ok(())
}

#[inline(never)]
pub(super) fn store_matrix(cta: &mut Cta<'_>, warp: &mut Warp<'_>, transpose: bool, a: Address, b: &[Slot]) -> Done {
    let Cta { addresses: rows, shared, words, counts, .. } = &mut *cta;
    addresses(&warp.registers, row_lanes(b.len()), a, rows)?;
    for (i, &slot) in b.iter().enumerate() {
        words.bits[i] = *warp.registers.narrow(slot);
        words.undef[i] = warp.registers.undefined(slot);
    }
    shared.stmatrix(warp.index, rows, b.len(), transpose, words, counts).map_err(misconverted)?;
    Ok(())
}

/// The lanes that give the rows of `count` matrices.
fn row_lanes(count: usize) -> u32 {
    (u64::MAX >> (64 - 8 * count.clamp(1, 4))) as u32
}
