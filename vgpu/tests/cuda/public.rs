//! Kernels that nobody here wrote, compared with the CPU references that their authors wrote beside them.
//!
//! VGPU_PUBLIC_SOURCES names a directory with checkouts of github.com/NVIDIA/cuda-samples and github.com/karpathy/llm.c;
//! nothing of them is part of this repository. Kernels and references are taken out of their files word by word: the
//! programs around them need libraries (cuBLAS, the CUDA runtime) that have no place here.

#![allow(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use cudarc::driver::PushKernelArg;
use libloading::{Library, Symbol};

use vgpu_cuda::fault::Check;

use crate::gpu::{Counts, Gpu, Refused, SCHEDULES, in_children, kernels_directory, launch_config, nvcc};
use crate::reference::Random;

const LAYER_NORM: &str = "llm.c/dev/cuda/layernorm_forward.cu";
const SOFTMAX: &str = "llm.c/dev/cuda/softmax_forward.cu";
const MATMUL: &str = "llm.c/dev/cuda/matmul_forward.cu";
const REDUCTION: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/reduction/reduction_kernel.cu";
const REDUCTION_CPU: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/reduction/reduction.cpp";
const SCALAR_PRODUCT: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/scalarProd/scalarProd_kernel.cuh";
const SCALAR_PRODUCT_CPU: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/scalarProd/scalarProd_cpu.cpp";
const HISTOGRAM: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/histogram/histogram256.cu";
const HISTOGRAM_COMMON: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/histogram/histogram_common.h";
const HISTOGRAM_CPU: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/histogram/histogram_gold.cpp";
const SCAN: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/shfl_scan/shfl_scan.cu";
const ASYNC: &str = "cuda-samples/Samples/3_CUDA_Features/globalToShmemAsyncCopy/globalToShmemAsyncCopy.cu";

const GROUPS: &str = "#include <cooperative_groups.h>\n#include <cooperative_groups/reduce.h>\n\
                      namespace cg = cooperative_groups;\n";

/// Where the sources, nvcc and the results are.
struct Workshop {
    sources: PathBuf,
    nvcc: PathBuf,
    made: tempfile::TempDir,
}

impl Workshop {
    fn open() -> Option<Workshop> {
        kernels_directory()?;
        let Some(sources) = std::env::var_os("VGPU_PUBLIC_SOURCES").map(PathBuf::from) else {
            eprintln!("skipped: VGPU_PUBLIC_SOURCES names no directory with cuda-samples and llm.c");
            return None;
        };
        Some(Workshop { sources, nvcc: nvcc()?, made: tempfile::tempdir().expect("a directory") })
    }

    /// Of a file, the definition that starts at each of `starts`, to its closing brace in the first column (`#` lines
    /// and one-line definitions: that line).
    fn take(&self, file: &str, starts: &[&str]) -> String {
        let path = self.sources.join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut taken = String::new();
        for start in starts {
            let from = text.find(start).unwrap_or_else(|| panic!("{file} has no {start:?}"));
            let rest = &text[from..];
            let line_end = rest.find('\n').unwrap_or(rest.len());
            let one_line = start.starts_with('#') || rest[..line_end].trim_end().ends_with([';', '}']);
            let end = if one_line { line_end } else { rest.find("\n}").map_or(rest.len(), |e| e + 2) };
            taken.push_str(&rest[..end]);
            taken.push_str(if start.starts_with("template <class T> struct") { ";\n" } else { "\n" });
        }
        taken
    }

    fn kernels(&self, name: &str, text: &str) -> PathBuf {
        let (source, ptx) = (self.made.path().join(format!("{name}.cu")), self.made.path().join(format!("{name}.ptx")));
        std::fs::write(&source, text).expect("written");
        let mut compile = Command::new(&self.nvcc);
        compile.args(["-ptx", "-arch=compute_80", "-std=c++17", "-lineinfo", "-w"]).arg(&source).arg("-o").arg(&ptx);
        succeed(compile);
        ptx
    }

    fn reference(&self, name: &str, text: &str) -> Library {
        let (source, library) =
            (self.made.path().join(format!("{name}.cpp")), self.made.path().join(format!("{name}.so")));
        let prelude = "#include <assert.h>\n#include <math.h>\n#include <stddef.h>\ntypedef unsigned int uint;\n";
        std::fs::write(&source, format!("{prelude}{text}")).expect("written");
        let mut compile = Command::new("c++");
        compile.args(["-O1", "-w", "-shared", "-fPIC"]).arg(&source).arg("-o").arg(&library);
        succeed(compile);
        // SAFETY: plain functions without initialisers.
        unsafe { Library::new(&library) }.expect("loads")
    }
}

fn succeed(mut command: Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The mangled name of the kernel in a module.
fn entry(module: &Path, kernel: &str) -> String {
    let text = std::fs::read_to_string(module).expect("PTX");
    let names = text.lines().filter_map(|l| l.split_once(".entry ").map(|(_, name)| name.trim_end_matches('(')));
    let mut found = names.filter(|n| n.contains(kernel));
    found.next().unwrap_or_else(|| panic!("{} has no {kernel}", module.display())).to_string()
}

fn assert_near(what: &str, got: &[f32], expected: &[f32], relative: f32, absolute: f32) {
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= relative * e.abs() + absolute, "{what}: element {i} is {g}, expected {e}");
    }
}

/// The kernel has a fault of its authors.
fn assert_reported(result: Result<Counts, Refused>, check: Check) {
    let report = result.expect_err("a fault").report;
    assert!(report.starts_with(&format!("{check:?} in ")), "{report}");
}

/// A warp a row, cooperative groups' reduction.
fn layer_norm(shop: &Workshop) {
    let (rows, width) = (37usize, 768usize);
    let module = shop.kernels(
        "layer_norm",
        &(GROUPS.to_string() + &shop.take(LAYER_NORM, &["__global__ void layernorm_forward_kernel3("])),
    );
    let library = shop
        .reference("layer_norm", &format!("extern \"C\" {}", shop.take(LAYER_NORM, &["void layernorm_forward_cpu("])));
    let mut random = Random(1);
    let (x, gain, shift) = (random.floats(rows * width, 1.0), random.floats(width, 1.0), random.floats(width, 1.0));
    let (mut expected, mut mean, mut scale) = (vec![0f32; rows * width], vec![0f32; rows], vec![0f32; rows]);
    type Reference =
        unsafe extern "C" fn(*mut f32, *mut f32, *mut f32, *const f32, *const f32, *const f32, i32, i32, i32);
    // SAFETY: the signature is the source's; the buffers have [rows, width], [rows] and [width].
    unsafe {
        let reference: Symbol<Reference> = library.get(b"layernorm_forward_cpu").expect("there");
        reference(
            expected.as_mut_ptr(),
            mean.as_mut_ptr(),
            scale.as_mut_ptr(),
            x.as_ptr(),
            gain.as_ptr(),
            shift.as_ptr(),
            1,
            rows as i32,
            width as i32,
        );
    }
    let gpu = Gpu::new();
    let kernel = gpu.kernel(&module, &entry(&module, "layernorm_forward_kernel3"), 0);
    let (x, gain, shift) = (gpu.upload(&x), gpu.upload(&gain), gpu.upload(&shift));
    let mut out = gpu.undefined::<f32>(rows * width);
    let (mut mean_out, mut scale_out) = (gpu.undefined::<f32>(rows), gpu.undefined::<f32>(rows));
    let (n, c) = (rows as i32, width as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&mut out).arg(&mut mean_out).arg(&mut scale_out).arg(&x).arg(&gain).arg(&shift).arg(&n).arg(&c);
    gpu.run(launch, launch_config(((32 * rows as u32).div_ceil(256), 1, 1), 256, 0)).expect("a clean launch");
    let read = |values| gpu.stream.clone_dtoh(values).expect("a copy");
    assert_near("layer norm", &read(&out), &expected, 1e-4, 1e-5);
    assert_near("its mean", &read(&mean_out), &mean, 1e-4, 1e-5);
    assert_near("its scale", &read(&scale_out), &scale, 1e-4, 1e-5);
}

/// A warp a row, online. The form with a block a row has a race of its own: no barrier lies between reading the maximum
/// and the first warp's writing of the sum to the same place.
fn softmax(shop: &Workshop) {
    let (rows, width) = (23usize, 1000usize);
    let pieces = [
        "__device__ float warpReduceMax(",
        "__global__ void softmax_forward_kernel4(",
        "__global__ void softmax_forward_online_kernel8(",
    ];
    let sum = shop.take("llm.c/dev/cuda/common.h", &["__device__ float warpReduceSum("]);
    let module = shop.kernels("softmax", &(sum + &shop.take(SOFTMAX, &pieces)));
    let library =
        shop.reference("softmax", &format!("extern \"C\" {}", shop.take(SOFTMAX, &["void softmax_forward_cpu("])));
    let x = Random(2).floats(rows * width, 5.0);
    let mut expected = vec![0f32; rows * width];
    // SAFETY: the signature is the source's; both buffers are [rows, width].
    unsafe {
        let reference: Symbol<unsafe extern "C" fn(*mut f32, *const f32, i32, i32)> =
            library.get(b"softmax_forward_cpu").expect("there");
        reference(expected.as_mut_ptr(), x.as_ptr(), rows as i32, width as i32);
    }
    for (name, blocks, shared) in
        [("softmax_forward_kernel4", rows as u32, 32), ("softmax_forward_online_kernel8", (rows as u32).div_ceil(8), 0)]
    {
        let gpu = Gpu::new();
        let kernel = gpu.kernel(&module, &entry(&module, name), shared);
        let x = gpu.upload(&x);
        let mut out = gpu.undefined::<f32>(rows * width);
        let (n, c) = (rows as i32, width as i32);
        let mut launch = gpu.stream.launch_builder(&kernel);
        launch.arg(&mut out).arg(&x).arg(&n).arg(&c);
        let result = gpu.run(launch, launch_config((blocks, 1, 1), 256, shared));
        if name == "softmax_forward_kernel4" {
            assert_reported(result, Check::SharedRace);
            continue;
        }
        result.expect("a clean launch");
        assert_near(name, &gpu.stream.clone_dtoh(&out).expect("a copy"), &expected, 1e-4, 1e-9);
    }
}

/// 128×128 tiles in shared memory, float4 loads and stores, a block of 16×16.
fn matmul(shop: &Workshop) {
    let (rows, depth, columns) = (128usize, 96usize, 256usize);
    let pieces = [
        "__device__ float4 ld_vec(",
        "__device__ void st_vec(",
        "__global__ void __launch_bounds__(16*16) matmul_forward_kernel4(",
    ];
    let module = shop.kernels("matmul", &shop.take(MATMUL, &pieces));
    let library =
        shop.reference("matmul", &format!("extern \"C\" {}", shop.take(MATMUL, &["void matmul_forward_cpu("])));
    let mut random = Random(3);
    let (x, weights, bias) =
        (random.floats(rows * depth, 1.0), random.floats(columns * depth, 1.0), random.floats(columns, 1.0));
    let mut expected = vec![0f32; rows * columns];
    type Reference = unsafe extern "C" fn(*mut f32, *const f32, *const f32, *const f32, i32, i32, i32, i32);
    // SAFETY: the signature is the source's; the buffers are [rows, columns], [rows, depth], [columns, depth], [columns].
    unsafe {
        let reference: Symbol<Reference> = library.get(b"matmul_forward_cpu").expect("there");
        let (t, c, oc) = (rows as i32, depth as i32, columns as i32);
        reference(expected.as_mut_ptr(), x.as_ptr(), weights.as_ptr(), bias.as_ptr(), 1, t, c, oc);
    }
    let gpu = Gpu::new();
    let kernel = gpu.kernel(&module, &entry(&module, "matmul_forward_kernel4"), 0);
    let (x, weights, bias) = (gpu.upload(&x), gpu.upload(&weights), gpu.upload(&bias));
    let mut out = gpu.undefined::<f32>(rows * columns);
    let (c, oc) = (depth as i32, columns as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&mut out).arg(&x).arg(&weights).arg(&bias).arg(&c).arg(&oc);
    let mut config = launch_config((rows as u32 / 128, columns as u32 / 128, 1), 16, 0);
    config.block_dim = (16, 16, 1);
    gpu.run(launch, config).expect("a clean launch");
    assert_near("matmul", &gpu.stream.clone_dtoh(&out).expect("a copy"), &expected, 1e-4, 1e-4);
}

/// Four ways to sum a block in shared memory, from divergent to coalesced.
fn reduction(shop: &Workshop) {
    let count = 5000usize;
    let names = ["reduce0", "reduce1", "reduce2", "reduce3"];
    let mut text = GROUPS.to_string() + &shop.take(REDUCTION, &["template <class T> struct SharedMemory"]);
    for name in names {
        text += &shop.take(REDUCTION, &[&format!("template <class T> __global__ void {name}(")]);
        text += &format!("template __global__ void {name}<int>(int*, int*, unsigned int);\n");
    }
    let module = shop.kernels("reduction", &text);
    let reference = shop.take(REDUCTION_CPU, &["template <class T> T reduceCPU("]);
    let library = shop.reference(
        "reduction",
        &format!(
            "{reference}\nextern \"C\" int reduce_int(int* data, int size) {{ return reduceCPU<int>(data, size); }}"
        ),
    );
    let mut numbers: Vec<i32> = (0..count as i32).map(|i| (i * 7919) % 256 - 100).collect();
    // SAFETY: the function above; the buffer has `count` numbers.
    let expected = unsafe {
        let reference: Symbol<unsafe extern "C" fn(*mut i32, i32) -> i32> = library.get(b"reduce_int").expect("there");
        reference(numbers.as_mut_ptr(), count as i32)
    };
    for name in names {
        // The last of them adds two elements as it loads.
        let per_block = if name == "reduce3" { 512 } else { 256 };
        let blocks = (count as u32).div_ceil(per_block);
        let gpu = Gpu::new();
        let kernel = gpu.kernel(&module, &entry(&module, name), 1024);
        let input = gpu.upload(&numbers);
        let mut out = gpu.undefined::<i32>(blocks as usize);
        let n = count as u32;
        let mut launch = gpu.stream.launch_builder(&kernel);
        launch.arg(&input).arg(&mut out).arg(&n);
        gpu.run(launch, launch_config((blocks, 1, 1), 256, 1024)).expect("a clean launch");
        let sums = gpu.stream.clone_dtoh(&out).expect("a copy");
        assert_eq!(sums.iter().sum::<i32>(), expected, "{name}");
    }
}

fn scalar_product(shop: &Workshop) {
    let (vectors, elements) = (7usize, 2500usize);
    let pieces = ["#define IMUL", "#define ACCUM_N", "__global__ void scalarProdGPU("];
    let module = shop.kernels("scalar_product", &(GROUPS.to_string() + &shop.take(SCALAR_PRODUCT, &pieces)));
    let library =
        shop.reference("scalar_product", &shop.take(SCALAR_PRODUCT_CPU, &["extern \"C\" void scalarProdCPU("]));
    let mut random = Random(4);
    let (mut a, mut b) = (random.floats(vectors * elements, 1.0), random.floats(vectors * elements, 1.0));
    let mut expected = vec![0f32; vectors];
    type Reference = unsafe extern "C" fn(*mut f32, *mut f32, *mut f32, i32, i32);
    // SAFETY: the signature is the source's; the buffers are [vectors], [vectors, elements] twice.
    unsafe {
        let reference: Symbol<Reference> = library.get(b"scalarProdCPU").expect("there");
        reference(expected.as_mut_ptr(), a.as_mut_ptr(), b.as_mut_ptr(), vectors as i32, elements as i32);
    }
    let gpu = Gpu::new();
    let kernel = gpu.kernel(&module, &entry(&module, "scalarProdGPU"), 0);
    let (a, b) = (gpu.upload(&a), gpu.upload(&b));
    let mut out = gpu.undefined::<f32>(vectors);
    let (n, e) = (vectors as i32, elements as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&mut out).arg(&a).arg(&b).arg(&n).arg(&e);
    gpu.run(launch, launch_config((3, 1, 1), 256, 0)).expect("a clean launch");
    assert_near("scalar product", &gpu.stream.clone_dtoh(&out).expect("a copy"), &expected, 1e-4, 1e-4);
}

/// Atomics in shared memory, a histogram a warp; then a block a bin.
fn histogram(shop: &Workshop) {
    const PARTS: usize = 12;
    let count = 6000usize;
    let common = shop.take(
        HISTOGRAM_COMMON,
        &[
            "#define HISTOGRAM256_BIN_COUNT",
            "#define UINT_BITS",
            "typedef unsigned int  uint",
            "#define LOG2_WARP_SIZE",
            "#define WARP_SIZE",
            "#define WARP_COUNT",
            "#define HISTOGRAM256_THREADBLOCK_SIZE",
            "#define HISTOGRAM256_THREADBLOCK_MEMORY",
            "#define UMUL",
            "#define UMAD",
        ],
    );
    let pieces = [
        "#define TAG_MASK",
        "inline __device__ void addByte(",
        "inline __device__ void addWord(",
        "__global__ void histogram256Kernel(",
        "#define MERGE_THREADBLOCK_SIZE",
        "__global__ void mergeHistogram256Kernel(",
    ];
    let module = shop.kernels("histogram", &(GROUPS.to_string() + &common + &shop.take(HISTOGRAM, &pieces)));
    let reference = shop.take(HISTOGRAM_CPU, &["extern \"C\" void histogram256CPU("]);
    let library = shop.reference(
        "histogram",
        &format!("{}{reference}", shop.take(HISTOGRAM_COMMON, &["#define HISTOGRAM256_BIN_COUNT"])),
    );
    let mut words: Vec<u32> = Random(5).floats(count, 1.0).into_iter().map(f32::to_bits).collect();
    let mut expected = vec![0u32; 256];
    // SAFETY: the signature is the source's; 256 bins, `count` words.
    unsafe {
        let reference: Symbol<unsafe extern "C" fn(*mut u32, *mut u32, u32)> =
            library.get(b"histogram256CPU").expect("there");
        reference(expected.as_mut_ptr(), words.as_mut_ptr(), 4 * count as u32);
    }
    let gpu = Gpu::new();
    let count_kernel = gpu.kernel(&module, &entry(&module, "18histogram256Kernel"), 0);
    let merge_kernel = gpu.kernel(&module, &entry(&module, "mergeHistogram256Kernel"), 0);
    let words = gpu.upload(&words);
    let (mut parts, mut out) = (gpu.undefined::<u32>(256 * PARTS), gpu.undefined::<u32>(256));
    let (n, part_count) = (count as u32, PARTS as u32);
    let mut launch = gpu.stream.launch_builder(&count_kernel);
    launch.arg(&mut parts).arg(&words).arg(&n);
    gpu.run(launch, launch_config((part_count, 1, 1), 192, 0)).expect("a clean launch");
    let mut launch = gpu.stream.launch_builder(&merge_kernel);
    launch.arg(&mut out).arg(&parts).arg(&part_count);
    gpu.run(launch, launch_config((256, 1, 1), 256, 0)).expect("a clean launch");
    assert_eq!(gpu.stream.clone_dtoh(&out).expect("a copy"), expected);
}

/// Prefix sums by shuffles; the reference is the loop of CPUverify.
fn scan(shop: &Workshop) {
    let (blocks, count) = (9usize, 9 * 256usize);
    let module =
        shop.kernels("scan", &shop.take(SCAN, &["__global__ void shfl_scan_test(", "__global__ void uniform_add("]));
    let numbers: Vec<i32> = (0..count as i32).map(|i| (i * 31) % 17 - 5).collect();
    let mut expected = numbers.clone();
    for i in 0..count - 1 {
        expected[i + 1] += expected[i];
    }
    let gpu = Gpu::new();
    let scan_kernel = gpu.kernel(&module, &entry(&module, "shfl_scan_test"), 32);
    let data = gpu.upload(&numbers);
    let mut parts = gpu.undefined::<i32>(blocks);
    let width = 32i32;
    let mut launch = gpu.stream.launch_builder(&scan_kernel);
    launch.arg(&data).arg(&width).arg(&mut parts);
    gpu.run(launch, launch_config((blocks as u32, 1, 1), 256, 32)).expect("a clean launch");
    // The host adds the blocks' sums: the sample's second level needs a multiple of 32 blocks.
    let mut got = gpu.stream.clone_dtoh(&data).expect("a copy");
    let sums = gpu.stream.clone_dtoh(&parts).expect("a copy");
    let mut before = 0;
    for (block, sum) in got.chunks_mut(256).zip(sums) {
        block.iter_mut().for_each(|v| *v += before);
        before += sum;
    }
    assert_eq!(got, expected);
}

/// Matrix products through cuda::pipeline, which is cp.async on this architecture; the sample's own check is of constant
/// matrices. Its kernel with four stages fetches five tiles ahead (`<=` where `<` is meant), so that the newest lands on
/// one that is still read: its own check cannot see that.
fn async_copies(shop: &Workshop) {
    let (rows, depth, columns) = (48usize, 160usize, 64usize);
    let names =
        ["MatrixMulAsyncCopyLargeChunk", "MatrixMulAsyncCopySingleStage", "MatrixMulAsyncCopyMultiStageLargeChunk"];
    let mut text = format!("#include <cuda/pipeline>\n{GROUPS}");
    for name in names {
        text += &shop.take(ASYNC, &[&format!("template <int BLOCK_SIZE>\n__global__ void {name}(")]);
        text += &format!("template __global__ void {name}<16>(float*, const float*, const float*, int, int);\n");
    }
    let module = shop.kernels("async_copies", &text);
    for name in names {
        let gpu = Gpu::new();
        let kernel = gpu.kernel(&module, &entry(&module, name), 0);
        let (a, b) = (gpu.upload(&vec![1f32; rows * depth]), gpu.upload(&vec![2.1f32; depth * columns]));
        let mut out = gpu.undefined::<f32>(rows * columns);
        let (wa, wb) = (depth as i32, columns as i32);
        let mut launch = gpu.stream.launch_builder(&kernel);
        launch.arg(&mut out).arg(&a).arg(&b).arg(&wa).arg(&wb);
        let mut config = launch_config((columns as u32 / 16, rows as u32 / 16, 1), 16, 0);
        config.block_dim = (16, 16, 1);
        let result = gpu.run(launch, config);
        if name == "MatrixMulAsyncCopyMultiStageLargeChunk" {
            assert_reported(result, Check::AsyncInFlight);
            continue;
        }
        result.expect("a clean launch");
        let expected = vec![depth as f32 * 2.1; rows * columns];
        assert_near(name, &gpu.stream.clone_dtoh(&out).expect("a copy"), &expected, 1e-5, 0.0);
    }
}

macro_rules! tests {
    ($($name:ident: $body:ident;)*) => {
        $(#[test]
        fn $name() {
            let Some(shop) = Workshop::open() else { return };
            in_children(concat!("public::", stringify!($name)), SCHEDULES, || $body(&shop));
        })*
    };
}

tests! {
    llm_c_layer_norm: layer_norm;
    llm_c_softmax: softmax;
    llm_c_matmul: matmul;
    cuda_samples_reduction: reduction;
    cuda_samples_scalar_product: scalar_product;
    cuda_samples_histogram: histogram;
    cuda_samples_scan: scan;
    cuda_samples_async_copies: async_copies;
}
