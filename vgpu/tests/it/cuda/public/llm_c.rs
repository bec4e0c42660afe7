//! Kernels of llm.c.

#![allow(unsafe_code)]

use cudarc::driver::PushKernelArg;
use libloading::Symbol;
use vgpu_cuda::fault::Check;

use super::{GROUPS, Workshop, assert_near, assert_reported, entry};
use crate::cuda::gpu::{Gpu, launch_config};
use crate::random::Random;

const LAYER_NORM: &str = "llm.c/dev/cuda/layernorm_forward.cu";
const SOFTMAX: &str = "llm.c/dev/cuda/softmax_forward.cu";
const MATMUL: &str = "llm.c/dev/cuda/matmul_forward.cu";

/// A warp a row, cooperative groups' reduction.
pub fn layer_norm(shop: &Workshop) {
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
pub fn softmax(shop: &Workshop) {
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
pub fn matmul(shop: &Workshop) {
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
