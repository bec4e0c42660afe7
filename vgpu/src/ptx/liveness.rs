//! Where each virtual register and predicate is alive, thread by thread: lanes of a warp keep their own values in a slot.
//!
//! Positions: instruction i reads at 2i and writes at 2i + 1. A guarded write ends no life, since the thread may not
//! have made it; so a register that only guarded writes precede is alive from the entry on.

use std::collections::VecDeque;

use super::LoadError;
use super::operands::may_alias;
use super::virtual_code::{SlotRef, VirtualCode, VirtualInst};
use crate::ir::Op;

/// Bits of the sets of the flow analysis: a kernel of 65,536 live-across registers and 4,096 blocks.
const MOST_BITS: usize = 1 << 28;

/// Half-open stretches of positions, ascending and apart.
pub type Life = Vec<(u32, u32)>;

pub struct Lives {
    pub registers: Vec<Life>,
    pub predicates: Vec<Life>,
}

/// Instructions `start..end` that are entered at the first and left after the last.
struct Block {
    start: usize,
    end: usize,
    next: Vec<u32>,
}

/// A variable is a register, or a predicate behind all registers.
struct Flow<'d> {
    virtual_code: &'d VirtualCode,
    blocks: Vec<Block>,
    variables: usize,
    /// Number of each variable among those that live across blocks; `NONE` for the others.
    crossing: Vec<u32>,
    crossing_list: Vec<u32>,
    /// Words of a set.
    words: usize,
    live_in: Vec<u64>,
}

const NONE: u32 = u32::MAX;

/// Jumps of `virtual_code` name instructions already.
pub fn lives(virtual_code: &VirtualCode) -> Result<Lives, LoadError> {
    let variables = virtual_code.registers.len() + virtual_code.predicates.len();
    let mut flow = Flow {
        virtual_code,
        blocks: blocks(&virtual_code.code),
        variables,
        crossing: vec![NONE; variables],
        crossing_list: Vec::new(),
        words: 0,
        live_in: Vec::new(),
    };
    flow.find_crossing();
    flow.words = flow.crossing_list.len().div_ceil(64);
    if flow.words.saturating_mul(flow.blocks.len()) > MOST_BITS / 64 {
        let what = "a kernel with so many registers and jumps".to_owned();
        return Err(LoadError::Unknown {
            line: virtual_code.code.first().map_or(1, |inst| inst.line),
            text: String::new(),
            what,
        });
    }
    flow.solve();
    let mut all = flow.stretches();
    let predicates = all.split_off(virtual_code.registers.len());
    Ok(Lives { registers: all, predicates })
}

/// Where control may go after an instruction: targets, and whether to the next one.
fn ways(inst: &VirtualInst) -> (&[u32], bool) {
    let falls = inst.guard.is_some();
    match &inst.op {
        Op::Bra { target } => (std::slice::from_ref(target), falls),
        Op::Brx { targets, .. } => (targets, falls),
        Op::Exit | Op::Trap | Op::AssertFail { .. } => (&[], falls),
        _ => (&[], true),
    }
}

fn ends_block(inst: &VirtualInst) -> bool {
    matches!(inst.op, Op::Bra { .. } | Op::Brx { .. } | Op::Exit | Op::Trap | Op::AssertFail { .. })
}

fn blocks(code: &[VirtualInst]) -> Vec<Block> {
    let mut leads = vec![false; code.len() + 1];
    leads[0] = true;
    for (index, inst) in code.iter().enumerate() {
        for &target in ways(inst).0 {
            if let Some(lead) = leads.get_mut(target as usize) {
                *lead = true;
            }
        }
        leads[index + 1] |= ends_block(inst);
    }
    let starts: Vec<usize> = (0..code.len()).filter(|&index| leads[index]).collect();
    let block_of = |index: usize| starts.partition_point(|&start| start <= index).wrapping_sub(1) as u32;
    let mut found = Vec::with_capacity(starts.len());
    for (number, &start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(code.len());
        let (targets, falls) = ways(&code[end - 1]);
        let mut next: Vec<u32> =
            targets.iter().filter(|&&target| (target as usize) < code.len()).map(|&t| block_of(t as usize)).collect();
        if falls && end < code.len() {
            next.push(number as u32 + 1);
        }
        // A table may name one place many times.
        next.sort_unstable();
        next.dedup();
        found.push(Block { start, end, next });
    }
    found
}

impl Flow<'_> {
    fn predicate(&self, id: u32) -> usize {
        self.virtual_code.registers.len() + id as usize
    }

    /// Calls `each` for every variable that the instruction reads, the guard included.
    fn reads(&self, inst: &VirtualInst, mut each: impl FnMut(usize)) {
        for reference in inst.slots.of(&self.virtual_code.slot_refs) {
            if let SlotRef::Read(id) = reference {
                each(*id as usize);
            }
        }
        for reference in inst.preds.of(&self.virtual_code.pred_refs) {
            if !reference.is_write {
                each(self.predicate(reference.id));
            }
        }
        if let Some((id, _)) = inst.guard {
            each(self.predicate(id));
        }
    }

    /// Calls `each` for every variable that the instruction writes, and whether that ends its earlier life.
    fn writes(&self, inst: &VirtualInst, mut each: impl FnMut(usize, bool)) {
        let always = inst.guard.is_none();
        for reference in inst.slots.of(&self.virtual_code.slot_refs) {
            if let SlotRef::Write(id) = reference {
                each(*id as usize, always || self.virtual_code.registers[*id as usize].is_temporary);
            }
        }
        for reference in inst.preds.of(&self.virtual_code.pred_refs) {
            if reference.is_write {
                each(self.predicate(reference.id), always || self.virtual_code.predicates[reference.id as usize]);
            }
        }
    }

    /// Variables that some block reads before it writes them: only these live across blocks.
    fn find_crossing(&mut self) {
        let mut written = vec![NONE; self.variables];
        let mut crossing = std::mem::take(&mut self.crossing);
        let mut list = Vec::new();
        for (number, block) in self.blocks.iter().enumerate() {
            for inst in &self.virtual_code.code[block.start..block.end] {
                self.reads(inst, |variable| {
                    if written[variable] != number as u32 && crossing[variable] == NONE {
                        crossing[variable] = list.len() as u32;
                        list.push(variable as u32);
                    }
                });
                self.writes(inst, |variable, ends| {
                    if ends {
                        written[variable] = number as u32;
                    }
                });
            }
        }
        self.crossing = crossing;
        self.crossing_list = list;
    }

    /// Live-in sets of all blocks, by iteration to the fixed point: first from the last block to the first, then those
    /// whose successors changed. (Whole passes would take one for each block of a chain that runs backwards.)
    fn solve(&mut self) {
        let words = self.words;
        let total = words * self.blocks.len();
        let (mut read, mut kept) = (vec![0u64; total], vec![u64::MAX; total]);
        for (number, block) in self.blocks.iter().enumerate() {
            let (read, kept) = (&mut read[number * words..][..words], &mut kept[number * words..][..words]);
            for inst in &self.virtual_code.code[block.start..block.end] {
                self.reads(inst, |variable| {
                    let bit = self.crossing[variable];
                    if bit != NONE && kept[bit as usize / 64] >> (bit % 64) & 1 == 1 {
                        read[bit as usize / 64] |= 1 << (bit % 64);
                    }
                });
                self.writes(inst, |variable, ends| {
                    let bit = self.crossing[variable];
                    if bit != NONE && ends {
                        kept[bit as usize / 64] &= !(1 << (bit % 64));
                    }
                });
            }
        }
        let mut live_in = read.clone();
        let mut out = vec![0u64; words];
        let before = self.predecessors();
        let mut waiting: VecDeque<usize> = (0..self.blocks.len()).rev().collect();
        let mut waits = vec![true; self.blocks.len()];
        while let Some(number) = waiting.pop_front() {
            waits[number] = false;
            out.fill(0);
            for &next in &self.blocks[number].next {
                for (word, other) in out.iter_mut().zip(&live_in[next as usize * words..][..words]) {
                    *word |= other;
                }
            }
            let base = number * words;
            let mut changed = false;
            for (word, live) in out.iter().enumerate() {
                let new = read[base + word] | live & kept[base + word];
                changed |= new != live_in[base + word];
                live_in[base + word] = new;
            }
            for &earlier in before[number].iter().filter(|_| changed) {
                if !std::mem::replace(&mut waits[earlier], true) {
                    waiting.push_back(earlier);
                }
            }
        }
        self.live_in = live_in;
    }

    /// The blocks from which control may come to each block.
    fn predecessors(&self) -> Vec<Vec<usize>> {
        let mut before = vec![Vec::new(); self.blocks.len()];
        for (number, block) in self.blocks.iter().enumerate() {
            block.next.iter().for_each(|&next| before[next as usize].push(number));
        }
        before
    }

    /// The variables of a block's live-in set.
    fn live_at(&self, block: usize) -> impl Iterator<Item = usize> + '_ {
        let set = &self.live_in[block * self.words..][..self.words];
        set.iter().enumerate().flat_map(move |(word, &bits)| {
            std::iter::successors((bits != 0).then_some(bits), |&bits| {
                let rest = bits & (bits - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |bits| self.crossing_list[word * 64 + bits.trailing_zeros() as usize] as usize)
        })
    }

    /// Every variable's life, walking each block backwards from what lives at its end.
    fn stretches(&self) -> Vec<Life> {
        let mut lives: Vec<Life> = vec![Vec::new(); self.variables];
        // End of the stretch that is open at the point of the walk; 0: not alive.
        let mut open = vec![0u32; self.variables];
        for (number, block) in self.blocks.iter().enumerate().rev() {
            for &next in &block.next {
                for variable in self.live_at(next as usize) {
                    open[variable] = 2 * block.end as u32;
                }
            }
            for (index, inst) in self.virtual_code.code[block.start..block.end].iter().enumerate().rev() {
                let position = 2 * (block.start + index) as u32;
                self.writes(inst, |variable, ends| {
                    let end = open[variable].max(position + 2);
                    if ends || open[variable] == 0 {
                        push(&mut lives[variable], (position + 1, end));
                        open[variable] = 0;
                    }
                });
                let read_end = if may_alias(&inst.op) { position + 1 } else { position + 2 };
                self.reads(inst, |variable| open[variable] = open[variable].max(read_end));
            }
            for variable in self.live_at(number) {
                push(&mut lives[variable], (2 * block.start as u32, open[variable]));
                open[variable] = 0;
            }
        }
        lives.iter_mut().for_each(|life| life.reverse());
        lives
    }
}

/// Puts a stretch before those that begin later, joined with the first of them if the two touch.
fn push(life: &mut Life, stretch: (u32, u32)) {
    match life.last_mut() {
        Some(later) if later.0 <= stretch.1 => *later = (stretch.0, stretch.1.max(later.1)),
        _ => life.push(stretch),
    }
}
