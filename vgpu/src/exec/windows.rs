//! Windows of generic addresses: which memory an address leads to, and conversions between generic and a space's own.

use super::registers::Registers;
use super::remote;
use crate::fault::{BadAccess, Check};
use crate::ir::{Slot, Space};
use crate::mem::{CONST_WINDOW, LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, SHARED_WINDOW_BYTES, WINDOW_BYTES};

/// Lanes whose generic address lies in the window; their addresses become the window's own.
pub(super) fn window(addresses: &mut [u64; 32], active: u32, start: u64) -> u32 {
    let mut inside = 0;
    for (l, address) in addresses.iter_mut().enumerate() {
        if active >> l & 1 == 1 && (start..start + WINDOW_BYTES).contains(address) {
            *address -= start;
            inside |= 1 << l;
        }
    }
    inside
}

/// Of another block of the cluster, or this one's by its rank.
pub(super) fn is_cluster(address: u64) -> bool {
    (SHARED_WINDOW + WINDOW_BYTES..SHARED_WINDOW + SHARED_WINDOW_BYTES).contains(&address)
}

/// Lanes of such addresses, which become cluster addresses.
pub(super) fn lanes_of_cluster(addresses: &mut [u64; 32], active: u32) -> u32 {
    let mut found = 0;
    for (l, address) in addresses.iter_mut().enumerate() {
        if active >> l & 1 == 1 && is_cluster(*address) {
            *address -= SHARED_WINDOW;
            found |= 1 << l;
        }
    }
    found
}

/// Lanes by the space they reach.
pub(super) struct Parts {
    list: [(Space, u32); 6],
    count: usize,
}

impl Parts {
    /// Those of which there are any.
    pub fn iter(&self) -> impl Iterator<Item = (Space, u32)> {
        self.list[..self.count].iter().copied().filter(|(_, mask)| *mask != 0)
    }
}

/// A generic access's lanes by the space they reach.
#[inline(always)]
pub(super) fn split(space: Space, rank: u32, active: u32, addresses: &mut [u64; 32]) -> Parts {
    match space {
        Space::Generic | Space::SharedCluster => split_window(space, rank, active, addresses),
        one => Parts { list: [(one, active); 6], count: 1 },
    }
}

fn split_window(space: Space, rank: u32, active: u32, addresses: &mut [u64; 32]) -> Parts {
    let list = match space {
        Space::SharedCluster => {
            let own = remote::own_lanes(rank, active, addresses);
            let none = (Space::Shared, 0);
            [(Space::Shared, own), (Space::SharedCluster, active & !own), none, none, none, none]
        }
        _ => {
            let shared = window(addresses, active, SHARED_WINDOW);
            let local = window(addresses, active & !shared, LOCAL_WINDOW);
            let mut rest = active & !shared & !local;
            // Nearly always none.
            let is_elsewhere =
                |&address: &u64| matches!(address >> 40 << 40, PARAM_WINDOW | CONST_WINDOW) || is_cluster(address);
            let (mut params, mut constants, mut own, mut others) = (0, 0, 0, 0);
            if addresses.iter().any(is_elsewhere) {
                params = window(addresses, rest, PARAM_WINDOW);
                constants = window(addresses, rest & !params, CONST_WINDOW);
                let cluster = lanes_of_cluster(addresses, rest);
                own = remote::own_lanes(rank, cluster, addresses);
                others = cluster & !own;
                rest &= !params & !constants & !cluster;
            }
            [
                (Space::Shared, shared | own),
                (Space::Local, local),
                (Space::Global, rest),
                (Space::Param, params),
                (Space::Const, constants),
                (Space::SharedCluster, others),
            ]
        }
    };
    Parts { list, count: list.len() }
}

/// Where conversions of pointers of another kind lead, in a window's own addresses: into no memory.
const MISCONVERTED: u64 = 0xe000_0000;
const MISCONVERTED_BYTES: u64 = 0x1000_0000;

/// `cvta`: between a window's own addresses and generic ones. A pointer of another kind gives an address that no access may
/// use. The conversion by itself is no fault: nvcc moves it out of a branch that asks for the pointer's kind first.
pub(super) fn convert_address(r: &mut Registers<'_>, active: u32, space: Space, to_generic: bool, [d, a]: [Slot; 2]) {
    let mut out = *r.wide(a);
    let (start, bytes) = match space {
        // Of a block of the cluster, as `mapa` gives it, in both forms.
        Space::Shared | Space::SharedCluster => (SHARED_WINDOW, SHARED_WINDOW_BYTES),
        Space::Local => (LOCAL_WINDOW, WINDOW_BYTES),
        Space::Param => (PARAM_WINDOW, WINDOW_BYTES),
        Space::Const => (CONST_WINDOW, WINDOW_BYTES),
        // One address space for both.
        _ => (0, 0),
    };
    for x in &mut out {
        *x = if to_generic {
            x.wrapping_add(start)
        } else if start == 0 || (start..start + bytes).contains(x) {
            *x - start
        } else {
            MISCONVERTED + *x % MISCONVERTED_BYTES
        };
    }
    r.put_wide_partly(d, active, &out, r.undefined_wide(a));
}

/// An access to shared or local memory by what was no pointer into it.
#[cold]
pub(super) fn misconverted(mut bad: BadAccess) -> Box<BadAccess> {
    let is_misconverted = |a: u64| (MISCONVERTED..MISCONVERTED + MISCONVERTED_BYTES).contains(&a);
    if bad.check == Check::OutOfBounds && bad.address.is_some_and(is_misconverted) {
        bad.check = Check::AddressSpace;
        bad.detail = "the address was converted from a generic one that lies in another kind of memory".to_string();
    }
    Box::new(bad)
}

/// An address outside of every allocation that lies in the window of another space: the pointer was of the wrong kind.
#[cold]
pub(super) fn wrong_space(mut bad: BadAccess) -> Box<BadAccess> {
    let other = match bad.address {
        Some(a) if (SHARED_WINDOW..SHARED_WINDOW + WINDOW_BYTES).contains(&a) => "shared",
        Some(a) if (LOCAL_WINDOW..LOCAL_WINDOW + WINDOW_BYTES).contains(&a) => "local",
        _ => return Box::new(bad),
    };
    bad.check = Check::AddressSpace;
    bad.detail = format!("an access to global memory by a generic address of {other} memory");
    Box::new(bad)
}

/// `isspacep`: lanes whose generic address lies in the space.
pub(super) fn in_space(r: &Registers<'_>, active: u32, space: Space, a: Slot) -> Result<u32, Box<BadAccess>> {
    r.check_wide(a, active)?;
    let mut lanes = *r.wide(a);
    let shared = window(&mut lanes, active, SHARED_WINDOW);
    let local = window(&mut lanes, active & !shared, LOCAL_WINDOW);
    let params = window(&mut lanes, active & !shared & !local, PARAM_WINDOW);
    let constants = window(&mut lanes, active & !shared & !local & !params, CONST_WINDOW);
    Ok(match space {
        Space::Shared => shared,
        Space::SharedCluster => shared | lanes_of_cluster(&mut lanes, active),
        Space::Local => local,
        Space::Param => params,
        Space::Const => constants,
        Space::Global | Space::Generic => {
            active & !shared & !local & !params & !constants & !lanes_of_cluster(&mut lanes, active)
        }
    })
}
