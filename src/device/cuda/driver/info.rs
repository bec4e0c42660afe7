//! What a GPU is.

#![allow(unsafe_code)]

use std::ffi::CStr;

use super::explain::Explain;
use super::out_param;
use super::start::device;
use super::virtual_gpu;
use crate::device::cuda::sys::{self, CUdevice_attribute as Attribute};
use crate::error::Result;

/// What a GPU is.
#[derive(Clone, Debug)]
pub struct Info {
    pub ordinal: usize,
    pub name: String,
    /// Compute capability: (8, 9) is sm_89.
    pub capability: (u32, u32),
    pub multiprocessors: u32,
    /// Bytes of shared memory that one block may ask for.
    pub shared_per_block: usize,
    pub memory: usize,
    /// GPU and CPU share their memory (Jetson).
    pub unified: bool,
    /// 13000 is CUDA 13.0: the newest that the driver knows.
    pub driver: u32,
    /// The driver launches kernels that overlap, and tells the edges that they become in a graph: CUDA 12.3.
    pub launches_overlap: bool,
    /// The driver describes tensors, and launches clusters: CUDA 12.0.
    pub takes_warpgroups: bool,
    /// Multiprocessors' clock, and that of the memory with its bus: what peaks follow from. Each, and the cache, is 0 where the
    /// driver does not tell.
    pub clock_khz: u32,
    pub memory_clock_khz: u32,
    pub memory_bus_bits: u32,
    pub l2_bytes: usize,
    /// The virtual GPU of this project, which computes on the CPU.
    pub is_virtual: bool,
}

/// The GPU of this number, as it describes itself.
///
/// # Errors
/// As `count`; no such GPU.
pub fn info(ordinal: usize) -> Result<Info> {
    Info::of(ordinal, device(ordinal)?)
}

/// CUDA 12.3.
const OVERLAPPING_DRIVER: i32 = 12_030;
/// CUDA 12.0, the first that takes PTX 8.0, which has wgmma.
const WARPGROUPS_DRIVER: i32 = 12_000;
/// Of a device's name.
const LONGEST_NAME: usize = 256;

impl Info {
    pub(super) fn of(ordinal: usize, device: sys::CUdevice) -> Result<Info> {
        let during = || format!("asking CUDA device {ordinal} what it is");
        // SAFETY: a valid device and a valid place.
        let ask = |attribute| out_param(0, |value| unsafe { sys::cuDeviceGetAttribute(value, attribute, device) });
        let get = |attribute| ask(attribute).during(during);
        // Only measurements need it: a GPU that does not tell works as well.
        let optional = |attribute| ask(attribute).unwrap_or(0);
        // SAFETY: a valid device and a valid place.
        let memory = out_param(0, |bytes| unsafe { sys::cuDeviceTotalMem_v2(bytes, device) }).during(during)?;
        // SAFETY: a valid place for an int.
        let driver = out_param(0, |version| unsafe { sys::cuDriverGetVersion(version) }).during(during)?;
        let name = out_param([0u8; LONGEST_NAME], |name| {
            // SAFETY: a valid device and so many bytes of room.
            unsafe { sys::cuDeviceGetName(name.as_mut_ptr().cast(), LONGEST_NAME as i32, device) }
        });
        let name = name.during(during)?;
        let name = CStr::from_bytes_until_nul(&name).map_or_else(|_| "a GPU".into(), CStr::to_string_lossy);
        Ok(Info {
            ordinal,
            name: name.into_owned(),
            capability: (
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
            ),
            multiprocessors: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
            shared_per_block: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
            memory,
            unified: get(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0,
            driver: driver as u32,
            launches_overlap: driver >= OVERLAPPING_DRIVER && sys::newer().launches_overlap(),
            takes_warpgroups: driver >= WARPGROUPS_DRIVER && sys::newer().takes_warpgroups(),
            clock_khz: optional(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE) as u32,
            memory_clock_khz: optional(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE) as u32,
            memory_bus_bits: optional(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH) as u32,
            l2_bytes: optional(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE) as usize,
            is_virtual: virtual_gpu::is_here(),
        })
    }
}
