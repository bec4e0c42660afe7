//! `wgmma`: products of four warps, their groups, and what the four must agree on.
//!
//! Each warp of a warpgroup computes its own sixteen rows. With schedules of odd number a product is computed when issued, with
//! even ones when a wait retires its group; in both, the factors are pinned in shared memory from issue to retirement.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use super::approx::mix;
use super::block::{Cta, Env};
use super::registers::{ALL, Done, Registers};
use super::warp::{Awaits, Group, Suspended, Warp};
use super::wgmma_product::{self, Factors, Rows};
use super::wgmma_registers::Watched;
use crate::fault::{BadAccess, Check, Earlier};
use crate::ir::{Kernel, Op, Slot, Wgmma, WgmmaA};
use crate::mem::{Descriptor, Ended, LineSet};

/// Products of a group that is not closed, and groups that are not waited for, at most: more are an endless loop's.
const MOST: usize = 1 << 12;
/// Warps of a warpgroup.
const WARPS: usize = 4;
/// Places of factors that a block remembers: those of all warps and stages of a pipeline.
const TILES: usize = 1024;

/// What a block's warpgroups are about.
pub(super) struct Warpgroups {
    warps: Vec<Products>,
    logs: Vec<Log>,
    tiles: HashMap<TileKey, Rc<LineSet>, BuildHasherDefault<Mixer>>,
    factors: Factors,
    /// Of each instruction, its place in [`Kernel::asynchronous`] plus one. Empty where the kernel has none.
    watched: Vec<u32>,
}

/// Descriptor, MN-major, first block and how many.
type TileKey = (u64, bool, u64, u64);

/// Hashes keys of whole numbers, as often as a product is asked for.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word);
    }
}

/// A warp's unfinished ones.
struct Products {
    registers: Watched,
    open: Vec<Product>,
    /// Groups that it closed: the number of each among the warpgroup's, and among the entries of its log.
    groups: VecDeque<Committed>,
    closed: u64,
    /// Entries of the warpgroup's log that it reached.
    reached: u64,
    ended: bool,
}

struct Committed {
    number: u64,
    entry: u64,
    products: Vec<Product>,
}

struct Product {
    pc: u32,
    a: Left,
    b: Rc<LineSet>,
    add: bool,
    is_computed: bool,
}

enum Left {
    Shared(Rc<LineSet>),
    Registers(Box<Rows>),
}

/// What the warps of a warpgroup did, from entry `forgotten` on.
#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    forgotten: u64,
    /// Of each group, with its number: who saw its products end.
    ends: Vec<(u64, Ended)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    pc: u32,
    descriptors: [u64; 2],
    add: bool,
    warp: u32,
}

impl Warpgroups {
    pub fn new(kernel: &Kernel, warps: usize) -> Warpgroups {
        let has_any = kernel.code.iter().any(|inst| matches!(inst.op, Op::Wgmma(_)));
        let mut watched = Vec::new();
        if !kernel.asynchronous.is_empty() {
            watched.resize(kernel.code.len(), 0);
            for (i, (pc, _)) in kernel.asynchronous.iter().enumerate() {
                if let Some(place) = watched.get_mut(*pc as usize) {
                    *place = i as u32 + 1;
                }
            }
        }
        let products = || Products {
            registers: Watched::new(kernel),
            open: Vec::new(),
            groups: VecDeque::new(),
            closed: 0,
            reached: 0,
            ended: false,
        };
        Warpgroups {
            warps: if has_any { (0..warps).map(|_| products()).collect() } else { Vec::new() },
            logs: (0..warps.div_ceil(WARPS)).map(|_| Log::default()).collect(),
            tiles: HashMap::default(),
            factors: Factors::default(),
            watched,
        }
    }

    pub fn reset(&mut self) {
        for warp in &mut self.warps {
            warp.registers.reset();
            warp.open.clear();
            warp.groups.clear();
            (warp.reached, warp.closed, warp.ended) = (0, 0, false);
        }
        self.logs.iter_mut().for_each(|log| *log = Log::default());
    }

    /// Whether any instruction of the kernel must be [`touch`]ed.
    #[inline(always)]
    pub fn is_watching(&self) -> bool {
        !self.watched.is_empty()
    }

    /// The lines of a factor's blocks.
    fn tile(
        &mut self,
        shared: &crate::mem::SharedMemory,
        key: TileKey,
        all: u64,
    ) -> Result<Rc<LineSet>, Box<BadAccess>> {
        if let Some(tile) = self.tiles.get(&key) {
            return Ok(tile.clone());
        }
        let (bits, mn_major, first, count) = key;
        let descriptor = Descriptor::new(bits);
        descriptor.check(mn_major, all).map_err(|detail| bad(Check::Wgmma, detail, None))?;
        let lines = shared.operand_lines(descriptor.rows(mn_major, first..first + count)).map_err(Box::new)?;
        let tile = Rc::new(LineSet::new(lines));
        if self.tiles.len() == TILES {
            self.tiles.clear();
        }
        self.tiles.insert(key, tile.clone());
        Ok(tile)
    }

    /// Who sees the end of the products that the warp asks for now.
    fn ended(&mut self, warp: usize) -> Ended {
        let number = self.warps.get(warp).map_or(0, |w| w.closed);
        let ends = &mut self.logs[warp / WARPS].ends;
        if let Some((_, ended)) = ends.iter().find(|(other, _)| *other == number) {
            return ended.clone();
        }
        let ended = Ended::default();
        ends.push((number, ended.clone()));
        ended
    }

    /// The warp does what the others of its warpgroup must do as their next, too.
    fn agree(&mut self, warp: usize, entry: Entry) -> Done {
        let group = warp / WARPS;
        let first = group * WARPS;
        let log = &mut self.logs[group];
        let Some(mine) = self.warps.get_mut(warp) else { return Ok(()) };
        let number = mine.reached;
        mine.reached += 1;
        if let Some(there) = log.entries.get((number - log.forgotten) as usize) {
            if (there.pc, there.descriptors, there.add) != (entry.pc, entry.descriptors, entry.add) {
                let what = if there.pc != entry.pc {
                    "another wgmma instruction than"
                } else {
                    "wgmma with another descriptor or scale than"
                };
                let detail = format!("{what} warp {} of its warpgroup, as number {number}", there.warp);
                return Err(bad(Check::Wgmma, detail, Some(there)));
            }
        } else {
            log.entries.push_back(entry);
        }
        if let Some(ended) = (first..first + WARPS)
            .find(|&w| self.warps.get(w).is_some_and(|other| other.ended && other.reached <= number))
        {
            let detail = format!("a wgmma instruction that warp {ended} of its warpgroup, which ended, never reached");
            return Err(bad(Check::Wgmma, detail, None));
        }
        let least = self.warps[first..].iter().take(WARPS).map(|w| w.reached).min().unwrap_or(0);
        while log.forgotten < least {
            log.entries.pop_front();
            log.forgotten += 1;
        }
        Ok(())
    }
}

#[cold]
fn bad(check: Check, detail: String, other: Option<&Entry>) -> Box<BadAccess> {
    let other = other.map(|entry| Earlier { pc: entry.pc, block: None, warp: Some(entry.warp) });
    Box::new(BadAccess { check, lanes: ALL, address: None, detail, other })
}

/// A 64-bit value that all lanes have in common.
fn descriptor(r: &Registers<'_>, slot: Slot) -> Result<u64, Box<BadAccess>> {
    r.check_wide(slot, ALL)?;
    let values = r.wide(slot);
    let differs = (0..32).filter(|&l| values[l] != values[0]).fold(0u32, |lanes, l| lanes | 1 << l);
    if differs == 0 {
        return Ok(values[0]);
    }
    let detail = "lanes of one wgmma with descriptors of their own".to_string();
    Err(Box::new(BadAccess { check: Check::Wgmma, lanes: differs, address: None, detail, other: None }))
}

/// `wgmma.mma_async` by all lanes of the warp.
pub(super) fn issue(env: &Env<'_>, cta: &mut Cta<'_>, warp: &mut Warp<'_>, pc: u32, w: &Wgmma) -> Done {
    let (index, r) = (warp.index, &mut warp.registers);
    let threads = env.launch.block.iter().map(|&n| n as usize).product::<usize>();
    if (index / WARPS + 1) * WARPS * 32 > threads {
        let detail = format!("a wgmma of warp {index} in a block of {threads} threads: its warpgroup is not complete");
        return Err(bad(Check::Wgmma, detail, None));
    }
    let b = descriptor(r, w.b)?;
    let a = match &w.a {
        WgmmaA::Shared(slot) => Some(descriptor(r, *slot)?),
        WgmmaA::Registers(_) => None,
    };
    let add = match r.condition(w.add, ALL)? {
        ALL => true,
        0 => false,
        _ => return Err(bad(Check::Wgmma, "lanes of one wgmma with a scale-d of their own".to_string(), None)),
    };
    let groups = &mut cta.wgmma;
    let mine = &groups.warps[index];
    if mine.open.len().max(mine.groups.len()) >= MOST {
        return Err(bad(
            Check::Wgmma,
            format!("more than {MOST} products, or groups of them, that nothing waits for"),
            None,
        ));
    }
    groups.agree(index, Entry { pc, descriptors: [a.unwrap_or(0), b], add, warp: index as u32 })?;
    groups.warps[index].registers.begin(index, pc, w)?;
    let watched = &groups.warps[index].registers;
    if add {
        // A product before this one may yet write them.
        for &slot in w.c.iter().filter(|slot| !r.is_defined(**slot)) {
            if groups.warps[index].open.is_empty() && groups.warps[index].groups.is_empty() || !watched.is_pending(slot)
            {
                r.check(slot, ALL)?;
            }
        }
    }
    let a = match (&w.a, a) {
        (WgmmaA::Registers(slots), _) => {
            slots.iter().try_for_each(|slot| r.check(*slot, ALL))?;
            let row = |i: usize| slots.get(i).map_or([0; 32], |slot| *r.narrow(*slot));
            Left::Registers(Box::new([row(0), row(1), row(2), row(3)]))
        }
        (WgmmaA::Shared(_), bits) => {
            let mn_major = w.transpose_a && w.a_type.bytes() == 2;
            let first = 2 * (index % WARPS) as u64;
            Left::Shared(groups.tile(&cta.shared, (bits.unwrap_or(0), mn_major, first, 2), 8)?)
        }
    };
    let mn_major = w.transpose_b && w.b_type.bytes() == 2;
    let columns = u64::from(w.n / 8);
    let b = groups.tile(&cta.shared, (b, mn_major, 0, columns), columns)?;
    let ended = groups.ended(index);
    if let Left::Shared(tile) = &a {
        cta.shared.check_operand(index, tile)?;
        cta.shared.pin(tile, index, pc, "wgmma", &ended);
    }
    cta.shared.check_operand(index, &b)?;
    cta.shared.pin(&b, index, pc, "wgmma", &ended);
    let mut product = Product { pc, a, b, add, is_computed: false };
    if env.options.schedule & 1 == 1 {
        compute(env, cta, warp, w, &mut product);
    }
    cta.counts.mma_flop += 2 * 16 * u64::from(w.n) * w.a_type.depth() as u64;
    cta.wgmma.warps[index].open.push(product);
    Ok(())
}

fn compute(env: &Env<'_>, cta: &mut Cta<'_>, warp: &mut Warp<'_>, w: &Wgmma, product: &mut Product) {
    let shared = &cta.shared;
    let loaded;
    let a = match &product.a {
        Left::Registers(rows) => &**rows,
        Left::Shared(tile) => {
            loaded = wgmma_product::rows(shared, tile, w.transpose_a && w.a_type.bytes() == 2);
            &loaded
        }
    };
    let (factors, mode) = (&mut cta.wgmma.factors, env.options.tensor);
    wgmma_product::multiply(&mut warp.registers, w, a, &product.b, product.add, factors, shared, mode, env.profile);
    product.is_computed = true;
}

pub(super) fn fence(cta: &mut Cta<'_>, warp: &Warp<'_>) {
    if let Some(products) = cta.wgmma.warps.get_mut(warp.index) {
        products.registers.fence();
    }
}

/// `wgmma.commit_group`
pub(super) fn commit(cta: &mut Cta<'_>, warp: &Warp<'_>, pc: u32) -> Done {
    let index = warp.index;
    cta.wgmma.agree(index, Entry { pc, descriptors: [0; 2], add: false, warp: index as u32 })?;
    if let Some(products) = cta.wgmma.warps.get_mut(index) {
        let group = std::mem::take(&mut products.open);
        let (number, entry) = (products.closed, products.reached - 1);
        products.groups.push_back(Committed { number, entry, products: group });
        products.closed += 1;
    }
    Ok(())
}

/// `wgmma.wait_group`: at most `pending` of the newest groups stay unfinished. The warp is suspended until the other warps of
/// its warpgroup have asked for their part of the products, as these are computed together.
pub(super) fn wait(cta: &mut Cta<'_>, warp: &mut Warp<'_>, pc: u32, pending: u32) -> Done {
    let index = warp.index;
    cta.wgmma.agree(index, Entry { pc, descriptors: [0; 2], add: false, warp: index as u32 })?;
    let Some(products) = cta.wgmma.warps.get(index) else { return Ok(()) };
    let last = products.groups.len().checked_sub(pending as usize + 1).and_then(|i| products.groups.get(i));
    if let Some(&Committed { number, entry, .. }) = last {
        let group = Group { pc, lanes: ALL, busy: true };
        warp.suspended.push(Suspended { group, awaits: Awaits::Products { number, entry } });
    }
    Ok(())
}

impl Warpgroups {
    /// Whether all four warps reached this entry of their log.
    pub fn is_reached(&self, warp: usize, entry: u64) -> bool {
        let first = warp / WARPS * WARPS;
        self.warps[first..].iter().take(WARPS).all(|other| other.reached > entry)
    }
}

/// Computes a warp's products of groups up to `number` that were not yet.
pub(super) fn compute_groups(env: &Env<'_>, cta: &mut Cta<'_>, warp: &mut Warp<'_>, number: u64) {
    let Some(products) = cta.wgmma.warps.get_mut(warp.index) else { return };
    let mut groups = std::mem::take(&mut products.groups);
    for product in groups.iter_mut().filter(|group| group.number <= number).flat_map(|group| &mut group.products) {
        if let Some(Op::Wgmma(w)) = env.launch.kernel.code.get(product.pc as usize).map(|inst| &inst.op)
            && !product.is_computed
        {
            compute(env, cta, warp, w, product);
        }
    }
    cta.wgmma.warps[warp.index].groups = groups;
}

/// The warp sees the end of its groups up to `number`, and with them the other warps' part.
pub(super) fn retire(env: &Env<'_>, cta: &mut Cta<'_>, warp: &mut Warp<'_>, number: u64) {
    let index = warp.index;
    let groups = &mut cta.wgmma;
    while groups.warps[index].groups.front().is_some_and(|group| group.number <= number) {
        let Some(group) = groups.warps[index].groups.pop_front() else { break };
        for product in &group.products {
            if let Some(Op::Wgmma(w)) = env.launch.kernel.code.get(product.pc as usize).map(|inst| &inst.op) {
                groups.warps[index].registers.end(w);
            }
        }
        if let Some((_, ended)) = groups.logs[index / WARPS].ends.iter().find(|(number, _)| *number == group.number) {
            cta.shared.end_reads(ended, index);
        }
    }
    let first = index / WARPS * WARPS;
    let oldest = |w: &Products| w.groups.front().map_or(w.closed, |group| group.number);
    let least = groups.warps[first..].iter().take(WARPS).map(oldest).min().unwrap_or(0);
    groups.logs[index / WARPS].ends.retain(|(number, _)| *number >= least);
}

/// An instruction that touches registers of products is about to be executed.
#[inline(never)]
pub(super) fn touch(env: &Env<'_>, cta: &mut Cta<'_>, warp: usize, pc: u32) -> Done {
    let groups = &mut cta.wgmma;
    let place = groups.watched.get(pc as usize).copied().unwrap_or(0);
    let Some((_, slots)) = (place as usize).checked_sub(1).and_then(|i| env.launch.kernel.asynchronous.get(i)) else {
        return Ok(());
    };
    // Its own registers a product looks after itself.
    if matches!(env.launch.kernel.code.get(pc as usize).map(|inst| &inst.op), Some(Op::Wgmma(_))) {
        return Ok(());
    }
    let Some(products) = groups.warps.get_mut(warp) else { return Ok(()) };
    slots.iter().try_for_each(|&(slot, writes)| products.registers.touch(warp, pc, slot, writes))
}

/// The warp's lanes end; `all`: none is left.
pub(super) fn end(cta: &mut Cta<'_>, warp: usize, lanes: u32, all: bool) -> Done {
    let groups = &mut cta.wgmma;
    let Some(products) = groups.warps.get_mut(warp) else { return Ok(()) };
    if let Some(product) = products.open.iter().chain(products.groups.iter().flat_map(|group| &group.products)).next() {
        let other = Some(Earlier { pc: product.pc, block: None, warp: Some(warp as u32) });
        let detail = "wgmma not waited for when the thread ends".to_string();
        return Err(Box::new(BadAccess { check: Check::AsyncPending, lanes, address: None, detail, other }));
    }
    if !all {
        return Ok(());
    }
    products.ended = true;
    let log = &groups.logs[warp / WARPS];
    let missed = products.reached.checked_sub(log.forgotten).and_then(|i| log.entries.get(i as usize));
    match missed {
        Some(entry) => {
            let detail = format!("the warp ends and never reached a wgmma instruction of warp {}", entry.warp);
            Err(bad(Check::Wgmma, detail, Some(entry)))
        }
        None => Ok(()),
    }
}
