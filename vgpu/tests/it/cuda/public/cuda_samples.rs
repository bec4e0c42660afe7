//! Kernels of cuda-samples.

#![allow(unsafe_code)]

use cudarc::driver::PushKernelArg;
use libloading::Symbol;
use vgpu_cuda::fault::Check;

use super::{GROUPS, Workshop, assert_near, assert_reported, entry};
use crate::cuda::gpu::{Gpu, launch_config};
use crate::random::Random;

const REDUCTION: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/reduction/reduction_kernel.cu";
const REDUCTION_CPU: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/reduction/reduction.cpp";
const SCALAR_PRODUCT: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/scalarProd/scalarProd_kernel.cuh";
const SCALAR_PRODUCT_CPU: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/scalarProd/scalarProd_cpu.cpp";
const HISTOGRAM: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/histogram/histogram256.cu";
const HISTOGRAM_COMMON: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/histogram/histogram_common.h";
const HISTOGRAM_CPU: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/histogram/histogram_gold.cpp";
const SCAN: &str = "cuda-samples/Samples/2_Concepts_and_Techniques/shfl_scan/shfl_scan.cu";
const ASYNC: &str = "cuda-samples/Samples/3_CUDA_Features/globalToShmemAsyncCopy/globalToShmemAsyncCopy.cu";

/// Four ways to sum a block in shared memory, from divergent to coalesced.
pub fn reduction(shop: &Workshop) {
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

pub fn scalar_product(shop: &Workshop) {
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
pub fn histogram(shop: &Workshop) {
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
pub fn scan(shop: &Workshop) {
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
pub fn async_copies(shop: &Workshop) {
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
