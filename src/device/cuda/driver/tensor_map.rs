//! Tensor maps: what bulk copies of tensors (TMA) of compute capability 9.0 are told about one, as a kernel's parameter has it.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;

use bytemuck::{Pod, Zeroable};

use super::explain::Explain;
use crate::device::cuda::codes::check;
use crate::device::cuda::sys::{self, AlignedTensorMap};
use crate::error::{Error, Result};

/// The most dimensions of a tensor.
pub const MOST_DIMS: usize = 5;

/// CUtensorMap: a kernel takes it in a parameter at a multiple of 64 bytes (`const __grid_constant__`).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct TensorMap([u64; 16]);

/// CUtensorMapDataType
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorElement {
    F16 = 6,
    F32 = 7,
}

/// CUtensorMapL2promotion: the bytes that the L2 cache fetches at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Promotion {
    Bytes128 = 2,
    Bytes256 = 3,
}

/// A tensor in global memory, and the box that one copy moves of it, its rows of 128 bytes permuted in shared memory as warpgroup
/// products read them (swizzle 128B). What lies outside of the tensor comes as zeros, and is not stored.
///
/// `cuTensorMapEncodeTiled` demands: 1 to 5 dimensions of 1 to 2³²; an address and strides that are multiples of 16 bytes, strides
/// below 2⁴⁰; a box of 1 to 256 along each dimension, along the innermost at most 128 bytes and a multiple of 16; every 1st to 8th
/// element.
#[derive(Clone, Copy, Debug)]
pub struct TensorMapSpec<'a> {
    pub element: TensorElement,
    pub address: u64,
    /// Elements, innermost first.
    pub dims: &'a [u64],
    /// Bytes from one to the next along `dims[1..]`.
    pub strides: &'a [u64],
    /// Elements of the box along each dimension.
    pub tile: &'a [u32],
    /// Of so many of them along each dimension the first is copied; [`EACH`]: all are.
    pub every: [u32; MOST_DIMS],
    pub l2_promotion: L2Promotion,
}

/// No element of a box is left out.
pub const EACH: [u32; MOST_DIMS] = [1; MOST_DIMS];

/// CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE
const NO_INTERLEAVE: u32 = 0;
const SWIZZLE_128B: u32 = 3;
const ZEROS: u32 = 0;

/// The driver's own code of it; nothing is queued.
///
/// # Errors
/// [`Error::Device`]: a driver older than CUDA 12.0; what the rules above forbid.
pub fn encode(spec: &TensorMapSpec<'_>) -> Result<TensorMap> {
    let TensorMapSpec { element, address, dims, strides, tile, every, l2_promotion } = *spec;
    assert!((1..=MOST_DIMS).contains(&dims.len()), "tensors have 1 to 5 dimensions");
    assert_eq!(
        (strides.len() + 1, tile.len()),
        (dims.len(), dims.len()),
        "a stride but for the innermost, a side each"
    );
    let Some(encode) = sys::newer().cuTensorMapEncodeTiled else {
        return Err(Error::Device("tensor maps need a driver for CUDA 12.0 or newer".to_owned()));
    };
    let mut map = AlignedTensorMap([0; 16]);
    // SAFETY: a valid place of the map's size and alignment; arrays as long as the rank says, but for the strides, which are one
    // shorter; the address is only written into the map.
    let encoded = check(unsafe {
        encode(
            &raw mut map,
            element as u32,
            dims.len() as u32,
            ptr::without_provenance_mut::<c_void>(address as usize),
            dims.as_ptr(),
            strides.as_ptr(),
            tile.as_ptr(),
            every.as_ptr(),
            NO_INTERLEAVE,
            SWIZZLE_128B,
            l2_promotion as u32,
            ZEROS,
        )
    });
    encoded.during(|| format!("describing a tensor of {dims:?} for boxes of {tile:?}"))?;
    Ok(TensorMap(map.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::driver::count;

    #[test]
    fn a_map_differs_by_its_tensor_and_wrong_ones_are_refused() {
        if count().is_err() || sys::newer().cuTensorMapEncodeTiled.is_none() {
            eprintln!("skipped: there is no driver that encodes tensor maps");
            return;
        }
        let (dims, strides, tile) = ([1024, 901], [2048], [64, 128]);
        let spec = TensorMapSpec {
            element: TensorElement::F16,
            address: 1 << 20,
            dims: &dims,
            strides: &strides,
            tile: &tile,
            every: EACH,
            l2_promotion: L2Promotion::Bytes256,
        };
        let Ok(map) = encode(&spec) else {
            eprintln!("skipped: no GPU here takes tensor maps");
            return;
        };
        assert_eq!(map, encode(&spec).unwrap());
        for other in [TensorMapSpec { address: 2 << 20, ..spec }, TensorMapSpec { every: [1, 2, 1, 1, 1], ..spec }] {
            assert!(map != encode(&other).unwrap());
        }
        for wrong in [
            TensorMapSpec { address: 8, ..spec },
            TensorMapSpec { strides: &[2040], ..spec },
            TensorMapSpec { tile: &[64, 257], ..spec },
            TensorMapSpec { tile: &[128, 128], ..spec },
            TensorMapSpec { every: [1, 9, 1, 1, 1], ..spec },
        ] {
            let error = encode(&wrong).unwrap_err().to_string();
            assert!(error.starts_with("describing a tensor of [1024, 901] for boxes of ["), "{error}");
        }
    }
}
