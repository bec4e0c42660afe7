//! Places of a kernel's accesses to global memory in 16 bits: the number of the instruction among those that make such
//! accesses, from 1 (0: none that is known), times 32, and the warp.

use super::agents::MAX_WARPS;
use crate::fault::Earlier;
use crate::ir::{Inst, Op, Space};

/// The instructions of a kernel that access global memory.
#[derive(Default)]
pub(super) struct Sites {
    /// By instruction: its number.
    numbers: Vec<u16>,
    /// By number, less one: the instruction.
    instructions: Vec<u32>,
}

/// Numbers that 11 bits hold; instructions beyond have none.
const MOST: usize = (1 << 11) - 1;

impl Sites {
    pub fn of(code: &[Inst]) -> Sites {
        let mut sites = Sites::default();
        for (pc, inst) in code.iter().enumerate() {
            let numbered = reaches_global(&inst.op) && sites.instructions.len() < MOST;
            if numbered {
                sites.instructions.push(pc as u32);
            }
            sites.numbers.push(if numbered { sites.instructions.len() as u16 } else { 0 });
        }
        sites
    }

    #[inline]
    pub fn place(&self, pc: u32, warp: usize) -> u16 {
        let number = self.numbers.get(pc as usize).copied().unwrap_or(0);
        number << 5 | (warp % MAX_WARPS) as u16
    }

    /// The access at `place` in block `block`.
    pub fn access(&self, place: u16, block: u64) -> Option<Earlier> {
        let pc = *self.instructions.get((place >> 5).checked_sub(1)? as usize)?;
        Some(Earlier { pc, block: Some(block), warp: Some(u32::from(warp_of(place))) })
    }
}

/// The warp of a place.
pub(super) fn warp_of(place: u16) -> u16 {
    place % MAX_WARPS as u16
}

fn reaches_global(op: &Op) -> bool {
    match op {
        Op::Ld { space, .. } | Op::St { space, .. } | Op::Atom { space, .. } => {
            matches!(space, Space::Global | Space::Generic)
        }
        Op::CpAsync { .. } | Op::Bulk(_) => true,
        _ => false,
    }
}
