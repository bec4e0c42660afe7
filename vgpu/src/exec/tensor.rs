//! Tensor maps that an instruction names: of parameters, constants or global memory.

use super::block::{Cta, Env};
use super::bulk::{aligned, invalid};
use super::memory::{addresses, fault};
use super::registers::{ALL, Done};
use super::warp::Warp;
use super::windows::wrong_space;
use crate::fault::{BadAccess, Check};
use crate::ir::{Address, Space};
use crate::mem::tensor_map::TensorMap;
use crate::mem::{CONST_WINDOW, GlobalUse, PARAM_WINDOW, WINDOW_BYTES};

/// The map at a generic address: of a parameter, of constants or of global memory.
pub(super) fn tensor_map(env: &Env<'_>, cta: &Cta<'_>, at: u64) -> Result<TensorMap, Box<BadAccess>> {
    aligned("a tensor map", at, 64)?;
    let bytes = map_bytes(env, cta, at)?;
    TensorMap::decode(&bytes).or_else(|detail| invalid(Some(at), detail))
}

/// The 128 bytes of a tensor map, at a generic address of parameters, constants or global memory.
fn map_bytes(env: &Env<'_>, cta: &Cta<'_>, at: u64) -> Result<[u8; 128], Box<BadAccess>> {
    let mut bytes = [0; 128];
    if let Some(offset) = at.checked_sub(PARAM_WINDOW).filter(|&offset| offset < WINDOW_BYTES) {
        let place = offset as usize;
        let Some(found) = env.launch.params.get(place..place + 128) else {
            let detail = format!("a tensor map at {offset} of {} bytes of parameters", env.launch.params.len());
            return Err(fault(Check::OutOfBounds, ALL, Some(at), detail));
        };
        bytes.copy_from_slice(found);
        return Ok(bytes);
    }
    if let Some(offset) = at.checked_sub(CONST_WINDOW).filter(|&offset| offset < WINDOW_BYTES) {
        let place = offset as usize;
        let Some(found) = env.launch.const_bank.get(place..place + 128) else {
            let detail = format!("a tensor map at {offset} of {} bytes of constants", env.launch.const_bank.len());
            return Err(fault(Check::OutOfBounds, ALL, Some(at), detail));
        };
        bytes.copy_from_slice(found);
        return Ok(bytes);
    }
    let mut check = cta.global.bulk_check(GlobalUse::Load);
    for (i, part) in bytes.chunks_exact_mut(16).enumerate() {
        let address = at + 16 * i as u64;
        check.piece(address, 16).map_err(wrong_space)?;
        check.flush().map_err(wrong_space)?;
        let (found, defined) = cta.global.bulk_get(address, 16);
        if defined != u16::MAX {
            return Err(fault(
                Check::Uninitialised,
                ALL,
                Some(address),
                "a tensor map that nothing has written".to_string(),
            ));
        }
        part.copy_from_slice(&found);
    }
    Ok(bytes)
}

/// `prefetch.tensormap`: the map must be one.
pub(super) fn prefetch_map(
    env: &Env<'_>,
    cta: &Cta<'_>,
    warp: &Warp<'_>,
    active: u32,
    space: Space,
    a: Address,
) -> Done {
    let mut at = [0; 32];
    addresses(&warp.registers, active, a, &mut at)?;
    for l in (0..32).filter(|l| active >> l & 1 == 1) {
        let start = match space {
            Space::Param => PARAM_WINDOW,
            Space::Const => CONST_WINDOW,
            _ => 0,
        };
        let address = at[l].wrapping_add(start);
        tensor_map(env, cta, address)?;
    }
    Ok(())
}
