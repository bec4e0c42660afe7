//! Races in global memory, as reports.

use super::Request;
use super::blocks::Conflict;
use super::lines::lanes;
use super::order::Kind;
use crate::fault::{BadAccess, Check, Earlier};

/// The lanes of a request that touch the byte.
pub(super) fn touching(r: &Request<'_>, address: u64) -> u32 {
    let touching = lanes(r.mask).filter(|&lane| address.wrapping_sub(r.addresses[lane]) < r.bytes as u64);
    touching.fold(0, |mask, lane| mask | 1 << lane)
}

/// A race between blocks in words.
pub(super) fn race(
    r: &Request<'_>,
    line: u64,
    block: u32,
    kind: Kind,
    conflict: Conflict,
    place: Option<Earlier>,
) -> BadAccess {
    let address = line + u64::from(conflict.mask.trailing_zeros());
    let lanes = touching(r, address);
    let other = match conflict.block {
        Some(other) if !conflict.several => format!("block {other}"),
        _ => "several blocks".to_string(),
    };
    let theirs = if conflict.wrote { "wrote" } else { "read" };
    let detail = match (conflict.non_coherent, kind) {
        (true, _) => format!("ld.global.nc in block {block} of what {other} {theirs} in this launch"),
        (_, Kind::Read | Kind::RelaxedRead) => {
            format!("block {block} reads what {other} {theirs} in this launch, and nothing orders them")
        }
        _ => format!("block {block} writes what {other} {theirs} in this launch, and nothing orders them"),
    };
    let check = if conflict.non_coherent { Check::NonCoherentRead } else { Check::GlobalRace };
    BadAccess { check, lanes, address: Some(address), detail, other: place }
}
