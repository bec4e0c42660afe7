//! What launches for compute capability 9.0 need and cudarc's CUDA 11.4 lacks: tensor maps, clusters, launches that overlap.

#![allow(unsafe_code)]

use std::ffi::c_void;

use cudarc::driver::{CudaFunction, CudaSlice, DevicePtr};

use super::gpu::{Counts, Gpu, Refused, flatten};
use crate::library::text_of;

/// What cuTensorMapEncodeTiled makes.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct TensorMap(pub [u64; 16]);

/// CUtensorMapDataType
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Kind {
    U8 = 0,
    F16 = 6,
    F32 = 7,
    Bf16 = 9,
}

/// CUtensorMapSwizzle
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Swizzle {
    None = 0,
    Bytes128 = 3,
}

/// A tensor and the boxes that are copied of it; the innermost dimension first.
pub struct Tiled<'a> {
    pub kind: Kind,
    pub sizes: &'a [u64],
    /// Bytes, of all dimensions but the innermost.
    pub strides: &'a [u64],
    pub tile: &'a [u32],
    pub swizzle: Swizzle,
}

type Encode = unsafe extern "C" fn(
    *mut TensorMap,
    u32,
    u32,
    u64,
    *const u64,
    *const u64,
    *const u32,
    *const u32,
    u32,
    u32,
    u32,
    u32,
) -> u32;

impl Tiled<'_> {
    /// `address`: of its first element.
    pub fn encode(&self, address: u64) -> TensorMap {
        let mut map = TensorMap([0; 16]);
        let steps = vec![1u32; self.sizes.len()];
        let rank = self.sizes.len() as u32;
        assert!(self.tile.len() == self.sizes.len() && self.strides.len() + 1 == self.sizes.len());
        // SAFETY: the lists have `rank` elements (the strides one fewer), the map is 64-byte aligned.
        let code = unsafe {
            let library = libloading::Library::new("libcuda.so").expect("loaded already");
            let encode: libloading::Symbol<Encode> = library.get(b"cuTensorMapEncodeTiled").expect("exported");
            let (sizes, strides, tile) = (self.sizes.as_ptr(), self.strides.as_ptr(), self.tile.as_ptr());
            let (kind, swizzle) = (self.kind as u32, self.swizzle as u32);
            encode(&mut map, kind, rank, address, sizes, strides, tile, steps.as_ptr(), 0, swizzle, 0, 0)
        };
        assert_eq!(code, 0, "cuTensorMapEncodeTiled");
        map
    }
}

/// A matrix of `rows` of `columns` elements of `bytes` each, with the 128-byte swizzle.
pub fn matrix(address: u64, (kind, bytes): (Kind, u64), (rows, columns): (usize, usize), tile: [u32; 2]) -> TensorMap {
    let (sizes, strides) = ([columns as u64, rows as u64], [columns as u64 * bytes]);
    Tiled { kind, sizes: &sizes, strides: &strides, tile: &tile, swizzle: Swizzle::Bytes128 }.encode(address)
}

/// One parameter of a kernel, as its bytes.
pub trait Parameter {
    fn bytes(&self) -> Vec<u8>;
}

impl Parameter for TensorMap {
    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

impl Parameter for u64 {
    fn bytes(&self) -> Vec<u8> {
        self.to_le_bytes().to_vec()
    }
}

impl Parameter for i32 {
    fn bytes(&self) -> Vec<u8> {
        self.to_le_bytes().to_vec()
    }
}

#[derive(Clone, Copy, Default)]
pub struct Shape {
    pub grid: [u32; 3],
    pub threads: u32,
    /// Dynamic, in bytes.
    pub shared: u32,
    pub cluster: Option<[u32; 3]>,
    /// May begin before the launch before has ended (CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION).
    pub overlaps: bool,
}

/// CUlaunchAttribute
#[repr(C)]
struct Attribute {
    id: u32,
    padding: u32,
    value: [u32; 16],
}

/// CUlaunchConfig
#[repr(C)]
struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: *mut c_void,
    attributes: *mut Attribute,
    count: u32,
}

const CLUSTER_DIMENSION: u32 = 4;
const PROGRAMMATIC_STREAM_SERIALIZATION: u32 = 6;

type Launch = unsafe extern "C" fn(*const Config, *mut c_void, *mut *mut c_void, *mut *mut c_void) -> u32;

impl Gpu {
    pub fn address<T>(&self, slice: &CudaSlice<T>) -> u64 {
        slice.device_ptr(&self.stream).0
    }

    /// Queues a launch.
    pub fn launch(&self, kernel: &CudaFunction, shape: Shape, parameters: &[&dyn Parameter]) -> Result<(), Refused> {
        let mut attributes = Vec::new();
        let mut add = |id, value: [u32; 3]| {
            let [x, y, z] = value;
            let mut attribute = Attribute { id, padding: 0, value: [0; 16] };
            attribute.value[..3].copy_from_slice(&[x, y, z]);
            attributes.push(attribute);
        };
        if let Some(cluster) = shape.cluster {
            add(CLUSTER_DIMENSION, cluster);
        }
        if shape.overlaps {
            add(PROGRAMMATIC_STREAM_SERIALIZATION, [1, 0, 0]);
        }
        let mut bytes: Vec<Vec<u8>> = parameters.iter().map(|p| p.bytes()).collect();
        let mut pointers: Vec<*mut c_void> = bytes.iter_mut().map(|b| b.as_mut_ptr().cast()).collect();
        let config = Config {
            grid: shape.grid,
            block: [shape.threads, 1, 1],
            shared: shape.shared,
            stream: self.stream.cu_stream().cast(),
            attributes: attributes.as_mut_ptr(),
            count: attributes.len() as u32,
        };
        self.stream.context().bind_to_thread().expect("this context");
        // SAFETY: the structures are the driver's; the parameters are the kernel's, what it does with them is what is tested.
        let code = unsafe {
            let library = libloading::Library::new("libcuda.so").expect("loaded already");
            let launch: libloading::Symbol<Launch> = library.get(b"cuLaunchKernelEx").expect("exported");
            launch(&config, kernel.cu_function().cast(), pointers.as_mut_ptr(), std::ptr::null_mut())
        };
        if code == 0 { Ok(()) } else { Err(Refused { code, report: text_of(b"vgpu_last_fault") }) }
    }

    /// Waits for everything; the counts of the last launch.
    pub fn finish(&self) -> Result<Counts, Refused> {
        let waited = self.stream.synchronize();
        let refused =
            |e: cudarc::driver::DriverError| Refused { code: e.0 as u32, report: text_of(b"vgpu_last_fault") };
        waited.map_err(refused).map(|()| flatten(&text_of(b"vgpu_last_counts")))
    }
}
