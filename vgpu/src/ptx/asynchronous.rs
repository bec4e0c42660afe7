//! Registers that a warpgroup's product reads and writes after its instruction: results and factors of `wgmma`.
//!
//! Each is alive in the whole kernel, so that no other value ever lies in its slot while a product may be under way.

use super::liveness::Lives;
use super::virtual_code::{SlotRef, VirtualCode, VirtualInst};
use crate::ir::{Op, Slot, SlotUses, WgmmaA};

/// Which registers are such, one truth a register.
pub fn registers(virtual_code: &VirtualCode) -> Vec<bool> {
    let mut found = vec![false; virtual_code.registers.len()];
    for inst in &virtual_code.code {
        let Op::Wgmma(wgmma) = &inst.op else { continue };
        let a: &[Slot] = if let WgmmaA::Registers(a) = &wgmma.a { a } else { &[] };
        for slot in wgmma.d.iter().chain(&wgmma.c).chain(a) {
            if let Some(SlotRef::Read(id) | SlotRef::Write(id)) =
                inst.slots.of(&virtual_code.slot_refs).get(slot.0 as usize)
            {
                found[*id as usize] = true;
            }
        }
    }
    found
}

/// Gives them the whole kernel to live in.
pub fn keep(lives: &mut Lives, registers: &[bool], instructions: usize) {
    for (life, _) in lives.registers.iter_mut().zip(registers).filter(|(_, is_kept)| **is_kept) {
        *life = vec![(0, 2 * instructions as u32)];
    }
}

/// What instructions other than `wgmma` do with their slots: see [`crate::ir::Kernel::asynchronous`].
pub fn uses(virtual_code: &VirtualCode, registers: &[bool], places: &[u16]) -> Vec<(u32, SlotUses)> {
    if !registers.contains(&true) {
        return Vec::new();
    }
    let of = |inst: &VirtualInst| -> SlotUses {
        let its = inst.slots.of(&virtual_code.slot_refs).iter().filter_map(|reference| match *reference {
            SlotRef::Read(id) => Some((id, false)),
            SlotRef::Write(id) => Some((id, true)),
            _ => None,
        });
        let kept = its.filter(|&(id, _)| registers[id as usize]);
        kept.map(|(id, is_write)| (Slot(places[id as usize]), is_write)).collect()
    };
    let others = virtual_code.code.iter().enumerate().filter(|(_, inst)| !matches!(inst.op, Op::Wgmma(_)));
    others.map(|(index, inst)| (index as u32, of(inst))).filter(|(_, uses)| !uses.is_empty()).collect()
}
