//! The driver's functions that are called, with numbers for results: a newer driver answers with numbers that no enum of
//! today has, and a Rust enum without its value is undefined behaviour. Types, and enums that are only given, are cudarc's.
//!
//! Every function of the first table exists in the driver of CUDA 11.4; those of the second, [`newer`], are looked for.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_ulonglong, c_void};

pub use cudarc::driver::sys::{
    CUDA_MEMCPY2D, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction, CUfunction_attribute,
    CUgraph, CUgraphExec, CUgraphNode, CUmemorytype, CUmodule, CUpointer_attribute, CUstream, CUstreamCaptureMode,
    culib, is_culib_present,
};

/// Declares functions of a library: a table that is filled once, and a function of the same name for each.
macro_rules! functions {
    ($library:path; $(fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        #[allow(non_snake_case)]
        struct Table {
            $($name: unsafe extern "C" fn($($type),*) -> u32,)*
        }

        impl Table {
            /// Or the name of a function that the library lacks.
            fn find() -> Result<Table, &'static str> {
                // SAFETY: the library is there, as the callers of `missing` have seen; each type is the function's in NVIDIA's header,
                // with a number of the same size for the enum that it returns.
                unsafe {
                    let library = $library();
                    Ok(Table { $(
                        $name: *library
                            .get::<unsafe extern "C" fn($($type),*) -> u32>(concat!(stringify!($name), "\0").as_bytes())
                            .map_err(|_| stringify!($name))?,
                    )* })
                }
            }

            fn get() -> &'static Result<Table, &'static str> {
                static TABLE: std::sync::OnceLock<Result<Table, &'static str>> = std::sync::OnceLock::new();
                TABLE.get_or_init(Table::find)
            }
        }

        $(
            /// # Safety
            /// What NVIDIA's documentation asks of its arguments. `missing` has been called and found nothing.
            #[allow(non_snake_case, clippy::too_many_arguments)]
            pub unsafe fn $name($($argument: $type),*) -> $crate::device::cuda::codes::CallResult {
                let table = Table::get().as_ref().expect("the library was looked at when it was opened");
                // SAFETY: the caller's.
                $crate::device::cuda::codes::check(unsafe { (table.$name)($($argument),*) })
            }
        )*

        /// A function that the installed library lacks. The library must be there.
        pub fn missing() -> Option<&'static str> {
            Table::get().as_ref().err().copied()
        }
    };
}
#[cfg(feature = "bench")]
pub(super) use functions;

/// Declares functions of the driver that an older one lacks: a table with what there is of them, to be called where the library is
/// there, as NVIDIA's documentation asks. What they answer is a [`Code`](super::codes::Code)'s number.
macro_rules! newer_functions {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        #[allow(non_snake_case)]
        pub struct Newer {
            $(pub $name: Option<unsafe extern "C" fn($($argument: $type),*) -> u32>,)*
        }

        /// The driver's newer functions. The library must be there.
        pub fn newer() -> &'static Newer {
            static NEWER: std::sync::OnceLock<Newer> = std::sync::OnceLock::new();
            NEWER.get_or_init(|| {
                // SAFETY: the library is there, as the callers of `missing` have seen; each type is the function's in NVIDIA's header,
                // with a number of the same size for the enums.
                unsafe {
                    let library = culib();
                    Newer { $(
                        $name: library
                            .get::<unsafe extern "C" fn($($type),*) -> u32>(concat!(stringify!($name), "\0").as_bytes())
                            .ok()
                            .map(|found| *found),
                    )* }
                }
            })
        }
    };
}

functions! {
    culib;
    fn cuInit(flags: c_uint);
    fn cuDriverGetVersion(version: *mut c_int);
    fn cuGetErrorName(error: u32, name: *mut *const c_char);
    fn cuGetErrorString(error: u32, text: *mut *const c_char);
    fn cuDeviceGetCount(count: *mut c_int);
    fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
    fn cuDeviceGetName(name: *mut c_char, length: c_int, device: CUdevice);
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: CUdevice_attribute, device: CUdevice);
    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    fn cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    fn cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    fn cuCtxCreate_v2(context: *mut CUcontext, flags: c_uint, device: CUdevice);
    fn cuCtxDestroy_v2(context: CUcontext);
    fn cuCtxPushCurrent_v2(context: CUcontext);
    fn cuCtxPopCurrent_v2(context: *mut CUcontext);
    fn cuCtxSynchronize();
    fn cuPointerGetAttributes(
        count: c_uint,
        attributes: *mut CUpointer_attribute,
        data: *mut *mut c_void,
        address: CUdeviceptr,
    );
    fn cuStreamCreate(stream: *mut CUstream, flags: c_uint);
    fn cuStreamDestroy_v2(stream: CUstream);
    fn cuStreamSynchronize(stream: CUstream);
    fn cuStreamQuery(stream: CUstream);
    fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint);
    fn cuStreamIsCapturing(stream: CUstream, status: *mut c_uint);
    fn cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode);
    fn cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize);
    fn cuMemFree_v2(address: CUdeviceptr);
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    fn cuMemHostAlloc(start: *mut *mut c_void, bytes: usize, flags: c_uint);
    fn cuMemFreeHost(start: *mut c_void);
    fn cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    fn cuMemcpyDtoDAsync_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    fn cuMemcpy2DAsync_v2(copy: *const CUDA_MEMCPY2D, stream: CUstream);
    fn cuMemsetD8Async(to: CUdeviceptr, value: c_uchar, count: usize, stream: CUstream);
    fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
    fn cuModuleUnload(module: CUmodule);
    fn cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    fn cuFuncSetAttribute(function: CUfunction, attribute: CUfunction_attribute, value: c_int);
    fn cuFuncGetAttribute(value: *mut c_int, attribute: CUfunction_attribute, function: CUfunction);
    fn cuLaunchKernel(
        function: CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        dynamic_shared: c_uint,
        stream: CUstream,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    );
    fn cuEventCreate(event: *mut CUevent, flags: c_uint);
    fn cuEventDestroy_v2(event: CUevent);
    fn cuEventRecord(event: CUevent, stream: CUstream);
    fn cuEventQuery(event: CUevent);
    fn cuEventSynchronize(event: CUevent);
    fn cuEventElapsedTime(milliseconds: *mut f32, start: CUevent, end: CUevent);
    fn cuGraphGetNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize);
    fn cuGraphInstantiateWithFlags(executable: *mut CUgraphExec, graph: CUgraph, flags: c_ulonglong);
    fn cuGraphUpload(executable: CUgraphExec, stream: CUstream);
    fn cuGraphLaunch(executable: CUgraphExec, stream: CUstream);
    fn cuGraphDestroy(graph: CUgraph);
    fn cuGraphExecDestroy(executable: CUgraphExec);
}

newer_functions! {
    // CUDA 11.8
    fn cuLaunchKernelEx(
        config: *const LaunchConfig,
        function: CUfunction,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    );
    // CUDA 12.0; the numbers are those of CUtensorMapDataType, -Interleave, -Swizzle, -L2promotion and -FloatOOBfill.
    fn cuTensorMapEncodeTiled(
        map: *mut AlignedTensorMap,
        element: u32,
        rank: u32,
        address: *mut c_void,
        dims: *const u64,
        strides: *const u64,
        tile: *const u32,
        element_strides: *const u32,
        interleave: u32,
        swizzle: u32,
        l2_promotion: u32,
        fill: u32,
    );
    // CUDA 12.3
    fn cuGraphGetEdges_v2(
        graph: CUgraph,
        from: *mut CUgraphNode,
        to: *mut CUgraphNode,
        data: *mut EdgeData,
        count: *mut usize,
    );
}

/// CUlaunchConfig
#[repr(C)]
pub struct LaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub dynamic_shared: c_uint,
    pub stream: CUstream,
    pub attributes: *const LaunchAttribute,
    pub attribute_count: c_uint,
}

/// CUlaunchAttribute: its number, then a union of 64 bytes, here as its first words.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct LaunchAttribute {
    id: u32,
    padding: u32,
    value: [u32; 16],
}

/// CUtensorMap
#[repr(C, align(64))]
pub struct AlignedTensorMap(pub [u64; 16]);

/// CUgraphEdgeData
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct EdgeData {
    pub from_port: u8,
    pub to_port: u8,
    /// [`PROGRAMMATIC_EDGE`] or 0.
    pub kind: u8,
    pub reserved: [u8; 5],
}

/// CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC
pub const PROGRAMMATIC_EDGE: u8 = 1;

impl Newer {
    /// Whether kernels can be launched so that they overlap, and the graphs they make be looked at.
    pub fn launches_overlap(&self) -> bool {
        self.cuLaunchKernelEx.is_some() && self.cuGraphGetEdges_v2.is_some()
    }

    /// Whether kernels of clusters can be launched whose operands tensor maps describe.
    pub fn takes_warpgroups(&self) -> bool {
        self.cuLaunchKernelEx.is_some() && self.cuTensorMapEncodeTiled.is_some()
    }
}

impl LaunchAttribute {
    /// CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: blocks of a cluster, along x.
    pub fn cluster(blocks: u32) -> Self {
        Self::new(4, [blocks, 1, 1])
    }

    /// CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION: it may begin before the kernel before it in its stream has ended.
    pub fn overlaps() -> Self {
        Self::new(6, [1, 0, 0])
    }

    fn new(id: u32, [x, y, z]: [u32; 3]) -> Self {
        let mut value = [0; 16];
        value[..3].copy_from_slice(&[x, y, z]);
        LaunchAttribute { id, padding: 0, value }
    }
}

// As they are on 64 bits.
const _: () = assert!(size_of::<LaunchConfig>() == 56 && size_of::<LaunchAttribute>() == 72);
const _: () = assert!(size_of::<AlignedTensorMap>() == 128 && size_of::<EdgeData>() == 8);
