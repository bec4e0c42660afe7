//! Tensor maps as programs make them.

use super::extended::*;
use super::fixtures::*;
use vgpu_cuda::mem::tensor_map::{MapElement, Swizzle, TensorMap};

#[repr(C, align(64))]
struct Map([u8; 128]);

/// The arguments of cuTensorMapEncodeTiled but for the map.
#[derive(Clone, Copy)]
struct Asked {
    element: u32,
    rank: u32,
    address: u64,
    dims: [u64; 2],
    strides: [u64; 1],
    box_dims: [u32; 2],
    element_strides: [u32; 2],
    interleave: u32,
    swizzle: u32,
    l2: u32,
    fill: u32,
}

/// A matrix of 100 × 256 halves in boxes of 8 × 64.
const MATRIX: Asked = Asked {
    element: 6,
    rank: 2,
    address: 0x7f00_0000_0000,
    dims: [256, 100],
    strides: [512],
    box_dims: [64, 8],
    element_strides: [1, 1],
    interleave: 0,
    swizzle: 3,
    l2: 2,
    fill: 0,
};

#[rustfmt::skip]
type Encode = unsafe extern "C" fn(
    *mut u8, u32, u32, u64, *const u64, *const u64, *const u32, *const u32, u32, u32, u32, u32,
) -> u32;
type Replace = unsafe extern "C" fn(*mut u8, u64) -> u32;

fn encode(map: *mut u8, a: &Asked) -> u32 {
    let encode: Encode = driver_function("cuTensorMapEncodeTiled");
    let (dims, strides) = (a.dims.as_ptr(), a.strides.as_ptr());
    let (box_dims, element_strides) = (a.box_dims.as_ptr(), a.element_strides.as_ptr());
    // SAFETY: the arrays have as many values as the rank asks for, up to 2; more are refused before they are read.
    unsafe {
        encode(
            map,
            a.element,
            a.rank,
            a.address,
            dims,
            strides,
            box_dims,
            element_strides,
            a.interleave,
            a.swizzle,
            a.l2,
            a.fill,
        )
    }
}

#[test]
fn a_tensor_map_is_made_checked_and_given_another_address() {
    let said = on_h100("driver::tensor_maps::a_tensor_map_is_made_checked_and_given_another_address", &[&[]], |_gpu| {
        let mut map = Map([0; 128]);
        let place = map.0.as_mut_ptr();
        assert_eq!(encode(place, &MATRIX), 0);
        let read = TensorMap::decode(&map.0).expect("a map");
        assert_eq!((read.element, read.rank, read.address), (MapElement::F16, 2, MATRIX.address));
        assert_eq!((read.dims[..2].to_vec(), read.strides[..2].to_vec()), (vec![256, 100], vec![2, 512]));
        assert_eq!((read.swizzle, read.l2, read.nan_fill), (Swizzle::B128, 2, false));
        assert_eq!(read.box_bytes(), 8 * 128);
        let replace: Replace = driver_function("cuTensorMapReplaceAddress");
        // SAFETY: 128 bytes of this frame.
        unsafe {
            assert_eq!(replace(place, MATRIX.address + 4096), 0);
            assert_eq!(replace(place, MATRIX.address + 4), 1);
        }
        assert_eq!(TensorMap::decode(&map.0).expect("a map"), TensorMap { address: MATRIX.address + 4096, ..read });
        map.0[20] ^= 1;
        // SAFETY: 128 bytes of this frame.
        assert_eq!(unsafe { replace(map.0.as_mut_ptr(), MATRIX.address) }, 1, "changed by somebody");

        let mut map = Map([0; 128]);
        let place = map.0.as_mut_ptr();
        assert_eq!(encode(std::ptr::null_mut(), &MATRIX), 1);
        assert_eq!(encode(place.wrapping_add(16), &MATRIX), 1, "not a multiple of 64");
        let refusals: [(&str, u32, Asked); 13] = [
            ("rank", 1, Asked { rank: 0, ..MATRIX }),
            ("rank", 1, Asked { rank: 6, ..MATRIX }),
            ("address", 1, Asked { address: 8, ..MATRIX }),
            ("strides", 1, Asked { strides: [520], ..MATRIX }),
            ("box", 1, Asked { box_dims: [64, 257], ..MATRIX }),
            ("box and swizzle", 1, Asked { box_dims: [128, 8], ..MATRIX }),
            ("element strides", 1, Asked { element_strides: [1, 9], ..MATRIX }),
            ("l2", 1, Asked { l2: 4, ..MATRIX }),
            ("fill", 1, Asked { fill: 2, ..MATRIX }),
            ("elements", 1, Asked { element: 16, ..MATRIX }),
            ("packed elements", 801, Asked { element: 13, ..MATRIX }),
            ("interleave", 801, Asked { interleave: 1, ..MATRIX }),
            ("a later swizzle", 801, Asked { swizzle: 4, ..MATRIX }),
        ];
        for (what, code, asked) in refusals {
            assert_eq!(encode(place, &asked), code, "{what}");
        }
        assert_eq!(map.0, [0; 128], "a refused map is not written");
    });
    for child in said {
        assert!(child.contains("boxDim[1] is 257, not 1 to 256"), "{child}");
    }
}

#[test]
fn devices_without_tensor_maps_refuse_them() {
    let Some(gpu) = context() else { return };
    gpu.bind_to_thread().expect("bound");
    assert_eq!(encode(Map([0; 128]).0.as_mut_ptr(), &MATRIX), 801);
}
