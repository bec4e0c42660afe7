//! How fast the virtual GPU is, checks and counts included: nanoseconds a warp instruction by class, and the product
//! 900×1024×4096, on one core and on two, by mma and, as an H100 does it, by bulk copies and warpgroup products.
//! `cargo xtask vgpu`, then `cargo bench -p vgpu --bench speed`; with names behind `--` (mma, product, …) only these.

#![allow(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use cudarc::driver::sys::CUfunction_attribute;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::Ptx;

/// Set in the child that measures.
const CHILD: &str = "VGPU_BENCH_CHILD";
/// Its value in the child that measures, on one core, what only an H100 has.
const HOPPER: &str = "hopper";

/// Kernels of classes.cu, and how many instructions one step is.
const CLASSES: &[(&str, f64)] = &[
    ("integer_add", 1.0),
    ("integer_mad", 1.0),
    ("float_fma", 1.0),
    ("half2_fma", 1.0),
    ("exponential", 1.0),
    ("convert_pair", 1.0),
    ("compare_select", 2.0),
    ("shuffle", 1.0),
    ("shared_load", 1.0),
    ("shared_load_vector", 1.0),
    ("shared_store", 1.0),
    ("global_load", 1.0),
    ("global_load_vector", 1.0),
    ("global_store", 1.0),
    ("ldmatrix", 1.0),
    ("mma", 1.0),
    ("cp_async", 3.0),
    ("barrier", 1.0),
];
const WARPS: u32 = 4;
const STEPS: i32 = 64;
const ROUNDS: i32 = 200;
const REPEATS: usize = 5;

/// rows, columns, depth
const PRODUCT: [i32; 3] = [900, 1024, 4096];
const PRODUCT_LIMIT: f64 = 2.0;
const HOPPER_LIMIT: f64 = 1.2;
/// What of it hopper_product.cu is compiled for: rows and columns of a tile, stages.
const HOPPER_TILE: [u32; 3] = [128, 128, 4];

fn from_environment(name: &str, usual: &str) -> PathBuf {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vgpu").join(usual);
    std::env::var_os(name).map_or(usual, PathBuf::from)
}

struct Bench {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    kernels: PathBuf,
}

impl Bench {
    fn kernel(&self, file: &str, name: &str) -> CudaFunction {
        let module = self.context.load_module(Ptx::from_file(self.kernels.join(file))).expect("a module");
        module.load_function(name).expect("a kernel")
    }

    /// The fastest of some runs of `launch`, in seconds.
    fn best(&self, repeats: usize, mut launch: impl FnMut()) -> f64 {
        let mut timed = || {
            let start = Instant::now();
            launch();
            self.stream.synchronize().expect("a clean launch");
            start.elapsed().as_secs_f64()
        };
        (0..repeats).map(|_| timed()).fold(f64::INFINITY, f64::min)
    }

    fn class(&self, name: &str) -> f64 {
        let kernel = self.kernel("classes.ptx", name);
        let data = self.stream.clone_htod(&(0..1024).collect::<Vec<u32>>()).expect("memory");
        let mut out = self.stream.alloc_zeros::<u32>(32 * WARPS as usize).expect("memory");
        let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32 * WARPS, 1, 1), shared_mem_bytes: 0 };
        self.best(REPEATS, || {
            let mut launch = self.stream.launch_builder(&kernel);
            launch.arg(&data).arg(&mut out).arg(&ROUNDS);
            // SAFETY: the arguments are the kernel's, the buffers as long as it says.
            unsafe { launch.launch(config) }.expect("a launch");
        })
    }

    fn product(&self) -> f64 {
        let [rows, columns, depth] = PRODUCT;
        let kernel = self.kernel("product.ptx", "product");
        // 1.0 in f16.
        let a = self.stream.clone_htod(&vec![0x3c00u16; (rows * depth) as usize]).expect("memory");
        let b = self.stream.clone_htod(&vec![0x3c00u16; (columns * depth) as usize]).expect("memory");
        let bias = self.stream.alloc_zeros::<f32>(columns as usize).expect("memory");
        let mut out = self.stream.alloc_zeros::<u16>((rows * columns) as usize).expect("memory");
        let grid = ((columns as u32).div_ceil(64), (rows as u32).div_ceil(32), 1);
        let config = LaunchConfig { grid_dim: grid, block_dim: (64, 1, 1), shared_mem_bytes: 0 };
        self.best(2, || {
            let mut launch = self.stream.launch_builder(&kernel);
            launch.arg(&a).arg(&b).arg(&bias).arg(&mut out).arg(&rows).arg(&columns).arg(&depth);
            // SAFETY: the arguments are the kernel's, the buffers have its shapes.
            unsafe { launch.launch(config) }.expect("a launch");
        })
    }
}

/// cuTensorMapEncodeTiled's
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct TensorMap([u64; 16]);

// SAFETY: plain bytes, passed by value as the kernel takes them.
unsafe impl DeviceRepr for TensorMap {}

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

/// Of a matrix of f16, in boxes of 64 columns and `rows_of_box` rows with the 128-byte swizzle.
fn tensor_map(library: &libloading::Library, address: u64, [rows, columns]: [i32; 2], rows_of_box: u32) -> TensorMap {
    let mut map = TensorMap([0; 16]);
    let (sizes, strides) = ([columns as u64, rows as u64], [2 * columns as u64]);
    let (tile, steps) = ([64, rows_of_box], [1, 1]);
    // SAFETY: two dimensions of each list, one stride; 6: f16, 3: the 128-byte swizzle.
    let code = unsafe {
        let encode: libloading::Symbol<Encode> = library.get(b"cuTensorMapEncodeTiled").expect("exported");
        let (sizes, strides, tile) = (sizes.as_ptr(), strides.as_ptr(), tile.as_ptr());
        encode(&mut map, 6, 2, address, sizes, strides, tile, steps.as_ptr(), 0, 3, 0, 0)
    };
    assert_eq!(code, 0, "a tensor map");
    map
}

impl Bench {
    fn hopper_product(&self, library: &libloading::Library) -> f64 {
        let ([rows, columns, depth], [tile_rows, tile_columns, stages]) = (PRODUCT, HOPPER_TILE);
        let kernel = self.kernel("hopper_product.ptx", "hopper_product");
        let shared = 1024 + stages * (tile_rows + tile_columns) * 128 + 2 * 64 * 128;
        let dynamic = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        kernel.set_attribute(dynamic, shared as i32).expect("as much shared memory");
        let halves = |count: i32| self.stream.clone_htod(&vec![0x3c00u16; count as usize]).expect("memory");
        let (a, b, out) = (halves(rows * depth), halves(columns * depth), halves(rows * columns));
        let bias = self.stream.alloc_zeros::<f32>(columns as usize).expect("memory");
        let map = |slice: &CudaSlice<u16>, size, rows_of_box| {
            tensor_map(library, slice.device_ptr(&self.stream).0, size, rows_of_box)
        };
        let a_map = map(&a, [rows, depth], tile_rows);
        let (b_map, out_map) = (map(&b, [columns, depth], tile_columns), map(&out, [rows, columns], 64));
        let grid = ((columns as u32).div_ceil(tile_columns), (rows as u32).div_ceil(tile_rows), 1);
        let config = LaunchConfig { grid_dim: grid, block_dim: (384, 1, 1), shared_mem_bytes: shared };
        self.best(2, || {
            let mut launch = self.stream.launch_builder(&kernel);
            launch.arg(&a_map).arg(&b_map).arg(&out_map).arg(&bias).arg(&columns).arg(&depth);
            // SAFETY: the arguments are the kernel's, the maps those of its matrices.
            unsafe { launch.launch(config) }.expect("a launch");
        })
    }
}

/// Named behind `--`, or nothing is named there.
fn is_asked(name: &str) -> bool {
    let mut names = std::env::args().skip(1).filter(|a| !a.starts_with("--")).peekable();
    names.peek().is_none() || names.any(|asked| asked == name)
}

fn measure(cores: &str) {
    // SAFETY: the library's initialisers are Rust's; it stays loaded to the end of the process.
    let library = unsafe { libloading::Library::new(from_environment("VGPU_LIB", "libcuda.so")) };
    let library = std::mem::ManuallyDrop::new(library.expect("the virtual GPU loads"));
    let context = CudaContext::new(0).expect("a context");
    // SAFETY: everything runs on one stream.
    unsafe { context.disable_event_tracking() };
    let bench =
        Bench { stream: context.default_stream(), context, kernels: from_environment("VGPU_KERNELS", "kernels") };
    let [rows, columns, depth] = PRODUCT;
    if cores == HOPPER {
        if is_asked("hopper") {
            let seconds = bench.hopper_product(&library);
            println!(
                "product {rows}×{columns}×{depth}, by warpgroups: {seconds:.2} s (limit {HOPPER_LIMIT} s on one core)"
            );
        }
        return;
    }
    // A block runs on one core: more of them change nothing here.
    if cores == "1" {
        let empty = bench.class("empty");
        println!("warp instruction, one core, checked and counted:");
        for &(name, instructions) in CLASSES.iter().filter(|(name, _)| is_asked(name)) {
            let each = (bench.class(name) - empty) / (f64::from(WARPS * (STEPS * ROUNDS) as u32) * instructions);
            println!("  {name:<20} {:7.1} ns", each * 1e9);
        }
    }
    if !is_asked("product") {
        return;
    }
    let seconds = bench.product();
    println!("product {rows}×{columns}×{depth}, {cores} core(s): {seconds:.2} s (limit {PRODUCT_LIMIT} s on one core)");
}

fn main() {
    if let Ok(cores) = std::env::var(CHILD) {
        return measure(&cores);
    }
    if !from_environment("VGPU_LIB", "libcuda.so").is_file() {
        eprintln!("skipped: the virtual GPU is not built; `cargo xtask vgpu` does it");
        return;
    }
    for (cores, threads) in [("1", "1"), ("2", "2"), (HOPPER, "1")] {
        let this = std::env::current_exe().expect("this bench");
        let mut child = Command::new(this);
        child.args(std::env::args().skip(1)).env(CHILD, cores).env("VGPU_THREADS", threads);
        if cores == HOPPER {
            child.env("VGPU_DEVICE", "h100");
        }
        let status = child.status().expect("a child");
        assert!(status.success(), "the measurement on {cores} core(s) failed");
    }
}
