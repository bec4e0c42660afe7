//! Functions and structures that came after the driver whose names cudarc knows here (11.4).

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUgraph, CUgraphNode, CUstream};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream};

use super::fixtures::*;
use crate::children::in_children;

/// A function of the library.
pub fn driver_function<T: Copy>(name: &str) -> T {
    // SAFETY: the library is loaded to the end of the process; the caller says what type the function has.
    unsafe {
        let library = libloading::Library::new("libcuda.so").expect("loaded already");
        *library.get::<T>(name.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

/// Runs a test on the h100 profile, with every setting.
pub fn on_h100(test: &str, settings: &[&[(&str, &str)]], body: impl FnOnce(Arc<CudaContext>)) -> Vec<String> {
    let settings: Vec<Vec<(&str, &str)>> =
        settings.iter().map(|setting| [&[("VGPU_DEVICE", "h100")], *setting].concat()).collect();
    let settings: Vec<&[(&str, &str)]> = settings.iter().map(Vec::as_slice).collect();
    let said = in_children(test, &settings, || {
        let gpu = context().expect("built");
        gpu.bind_to_thread().expect("bound");
        body(gpu);
    });
    said.into_iter().map(|child| child.stderr).collect()
}

/// CUlaunchAttribute
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Attribute {
    id: u32,
    padding: u32,
    value: [u32; 16],
}

pub fn attribute(id: u32, words: &[u32]) -> Attribute {
    let mut value = [0; 16];
    value[..words.len()].copy_from_slice(words);
    Attribute { id, padding: 0, value }
}

pub const COOPERATIVE: u32 = 2;
pub const CLUSTER: u32 = 4;
pub const PROGRAMMATIC: u32 = 6;

/// CUlaunchConfig
#[repr(C)]
pub struct Config<'a> {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    stream: CUstream,
    attributes: *const Attribute,
    count: u32,
    /// The attributes live as long.
    list: PhantomData<&'a [Attribute]>,
}

impl<'a> Config<'a> {
    pub fn new(stream: &CudaStream, grid: [u32; 3], threads: u32, shared: u32, attributes: &'a [Attribute]) -> Self {
        Config {
            grid,
            block: [threads, 1, 1],
            dynamic_shared: shared,
            stream: stream.cu_stream(),
            attributes: attributes.as_ptr(),
            count: attributes.len() as u32,
            list: PhantomData,
        }
    }
}

/// cuLaunchKernelEx
pub fn launch_with(config: &Config<'_>, kernel: &CudaFunction, arguments: &mut [*mut c_void]) -> u32 {
    type Launch = unsafe extern "C" fn(*const Config<'_>, CUfunction, *mut *mut c_void, *mut *mut c_void) -> u32;
    let launch: Launch = driver_function("cuLaunchKernelEx");
    // SAFETY: the configuration and what the arguments point to live through the call.
    unsafe { launch(config, kernel.cu_function(), arguments.as_mut_ptr(), std::ptr::null_mut()) }
}

/// y = a·x of [`SCALE`] with attributes, on n elements.
pub fn scale_with(
    stream: &CudaStream,
    kernel: &CudaFunction,
    (mut y, mut x): (CUdeviceptr, CUdeviceptr),
    mut a: f32,
    mut n: u32,
    attributes: &[Attribute],
) -> u32 {
    let config = Config::new(stream, [n.div_ceil(64), 1, 1], 64, 0, attributes);
    let mut arguments = [(&raw mut y).cast(), (&raw mut x).cast(), (&raw mut a).cast(), (&raw mut n).cast()];
    launch_with(&config, kernel, &mut arguments)
}

/// (from, to, [from_port, to_port, type]) of each of a graph's edges, and the code of the query without their data.
pub fn edges(graph: CUgraph) -> (Vec<(CUgraphNode, CUgraphNode, [u8; 3])>, u32) {
    type Edges = unsafe extern "C" fn(CUgraph, *mut CUgraphNode, *mut CUgraphNode, *mut [u8; 8], *mut usize) -> u32;
    type Plain = unsafe extern "C" fn(CUgraph, *mut CUgraphNode, *mut CUgraphNode, *mut usize) -> u32;
    let (with_data, plain): (Edges, Plain) =
        (driver_function("cuGraphGetEdges_v2"), driver_function("cuGraphGetEdges"));
    use std::ptr::null_mut;
    let mut count = 0;
    // SAFETY: asks for the number alone.
    assert_eq!(unsafe { with_data(graph, null_mut(), null_mut(), null_mut(), &mut count) }, 0);
    let (mut from, mut to, mut data) = (vec![null_mut(); count], vec![null_mut(); count], vec![[0u8; 8]; count]);
    let mut room = count;
    // SAFETY: each list has room for `count`.
    let lossless = unsafe { with_data(graph, from.as_mut_ptr(), to.as_mut_ptr(), data.as_mut_ptr(), &mut room) };
    assert_eq!((lossless, room), (0, count));
    // SAFETY: each list has room for `count`.
    let lossy = unsafe { plain(graph, from.as_mut_ptr(), to.as_mut_ptr(), &mut room) };
    let edge = |i: usize| (from[i], to[i], [data[i][0], data[i][1], data[i][2]]);
    ((0..count).map(edge).collect(), lossy)
}
