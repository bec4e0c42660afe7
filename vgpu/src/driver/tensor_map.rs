//! Tensor maps as the host makes them. Packed elements, interleaved layouts and the swizzles of later architectures are refused.

use super::boundary::{Host, In, Out};
use super::error::{Code, Outcome, fail};
use super::{Machine, driver_functions};
use crate::mem::tensor_map::{MAX_RANK, MapElement, Swizzle, TensorMap};

/// As `cuDriverGetVersion` tells it.
const FIRST_DRIVER: u32 = 12_000;
/// A CUtensorMap lies at a multiple of this.
const ALIGN: usize = 64;
/// Last number of CUtensorMapDataType and of CUtensorMapSwizzle; what is neither known here nor above it is refused as not emulated.
const LAST_ELEMENT: u32 = 15;
const LAST_SWIZZLE: u32 = 6;
const LAST_INTERLEAVE: u32 = 2;

/// The 128 bytes behind a CUtensorMap pointer.
type Bytes = [u8; 128];

fn check_place(map: Host) -> Outcome {
    if map.is_null() || !map.address().is_multiple_of(ALIGN) {
        let what = format!("the tensor map's address {:#x} is not a multiple of {ALIGN}", map.address());
        return fail(Code::INVALID_VALUE, what);
    }
    Ok(())
}

fn invalid<T>(what: String) -> Outcome<T> {
    fail(Code::INVALID_VALUE, what)
}

/// A value of an enumeration; 801 for those that CUDA knows and this library does not.
fn known<T>(what: &str, code: u32, value: Option<T>, last: u32) -> Outcome<T> {
    match value {
        Some(value) => Ok(value),
        None if code <= last => fail(Code::NOT_SUPPORTED, format!("{what} {code} is not emulated")),
        None => invalid(format!("{what} {code} is not known")),
    }
}

/// The first `rank` values of an array, then `rest`.
fn array<T: Copy>(values: &In<T>, skip: usize, rank: usize, rest: T) -> Outcome<[T; MAX_RANK]> {
    let mut all = [rest; MAX_RANK];
    for (i, value) in all.iter_mut().enumerate().take(rank).skip(skip) {
        *value = values.at(i - skip)?;
    }
    Ok(all)
}

impl Machine {
    /// Tensor maps came with compute capability 9.0 and CUDA 12.0.
    fn check_has_tensor_maps(&self) -> Outcome {
        let profile = &self.device_of(self.current()?)?.profile;
        if profile.driver_version < FIRST_DRIVER {
            return fail(Code::NOT_SUPPORTED, format!("tensor maps need a driver of version {FIRST_DRIVER} or newer"));
        }
        if profile.major >= 9 {
            return Ok(());
        }
        let what =
            format!("tensor maps need compute capability 9.0, the device has {}.{}", profile.major, profile.minor);
        fail(Code::NOT_SUPPORTED, what)
    }
}

driver_functions! {
    table table;

    fn cuTensorMapEncodeTiled(
        machine,
        map: Host,
        element: u32,
        rank: u32,
        address: u64,
        dims: In<u64>,
        strides: In<u64>,
        box_dims: In<u32>,
        element_strides: In<u32>,
        interleave: u32,
        swizzle: u32,
        l2: u32,
        fill: u32,
    ) {
        machine.check_has_tensor_maps()?;
        check_place(map)?;
        let rank = rank as usize;
        if rank == 0 || rank > MAX_RANK {
            return invalid(format!("tensorRank is {rank}, not 1 to {MAX_RANK}"));
        }
        let element = known("tensorDataType", element, MapElement::from_code(element), LAST_ELEMENT)?;
        known("interleave", interleave, Some(()).filter(|_| interleave == 0), LAST_INTERLEAVE)?;
        if fill > 1 {
            return invalid(format!("oobFill {fill} is not known"));
        }
        let mut strides = array(&strides, 1, rank, 0)?;
        strides[0] = element.bytes() as u64;
        let new = TensorMap {
            element,
            rank,
            address,
            dims: array(&dims, 0, rank, 1)?,
            strides,
            box_dims: array(&box_dims, 0, rank, 1)?,
            element_strides: array(&element_strides, 0, rank, 1)?,
            swizzle: known("swizzle", swizzle, Swizzle::from_code(swizzle), LAST_SWIZZLE)?,
            l2,
            nan_fill: fill == 1,
        };
        new.check().or_else(invalid)?;
        map.write(&new.encode())
    }

    fn cuTensorMapReplaceAddress(machine, map: Out<Bytes>, address: u64) {
        machine.check_has_tensor_maps()?;
        let old = TensorMap::decode(&map.read()?).or_else(invalid)?;
        let new = TensorMap { address, ..old };
        new.check().or_else(invalid)?;
        map.write(new.encode())
    }
}
