//! FlashAttention-3, forward, heads of 64: kernels and their authors' host code, which encodes the tensor maps and fills a
//! structure of parameters, on a small CUDA runtime of the test's own (tests/public/runtime.cpp).

#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::path::PathBuf;

use cudarc::driver::result::module;
use libloading::{Library, Symbol};

use super::Workshop;
use crate::cuda::gpu::Gpu;
use crate::cuda::reference::{self, AttentionShape, Expected, widen};
use crate::random::Random;

const HEADS: usize = 2;

/// Whether each query sees the keys after it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mask {
    None,
    Causal,
}

/// The library with the host code, and the kernels' PTX.
fn compile(shop: &Workshop) -> (PathBuf, PathBuf) {
    let include = |path: &str| format!("-I{}", shop.sources.join(path).display());
    let mut options: Vec<String> = [
        "-std=c++17",
        "--expt-relaxed-constexpr",
        "--expt-extended-lambda",
        "--use_fast_math",
        "-DNDEBUG",
        "-DCUTLASS_ENABLE_GDC_FOR_SM90",
    ]
    .map(str::to_string)
    .to_vec();
    for part in ["VARLEN", "LOCAL", "CLUSTER", "APPENDKV", "PAGEDKV", "SPLIT", "SOFTCAP", "PACKGQA"] {
        options.push(format!("-DFLASHATTENTION_DISABLE_{part}"));
    }
    options.extend([include("flash-attention/hopper"), include("cutlass/include")]);
    let runtime = include_str!("../../../public/runtime.cpp");
    shop.host_and_kernels("flash_attention_3", include_str!("../../../public/flash_attention_3.cu"), runtime, &options)
}

fn expected(q: &[half::f16], k: &[half::f16], v: &[half::f16], keys: usize, mask: Mask) -> Expected {
    let row = HEADS * reference::WIDTH;
    let mut all = Expected { value: Vec::new(), bound: Vec::new() };
    for (query, q) in q.chunks(row).enumerate() {
        let seen = if mask == Mask::Causal { query + 1 } else { keys };
        let shape = AttentionShape { heads: HEADS, queries: 1, keys: seen };
        let one = reference::attention(q, &k[..seen * row], &v[..seen * row], shape);
        all.value.extend(one.value);
        all.bound.extend(one.bound);
    }
    all
}

type Forward = unsafe extern "C" fn(u64, u64, u64, u64, u64, i32, i32, i32, i32, u64);

pub fn forward(shop: &Workshop) {
    let (library, ptx) = compile(shop);
    let gpu = Gpu::new();
    // SAFETY: the initialisers note the kernels' names; the library stays to the end.
    let library = unsafe { Library::new(&library) }.expect("the host code loads");
    let text = CString::new(std::fs::read(&ptx).expect("PTX")).expect("text");
    gpu.stream.context().bind_to_thread().expect("this context");
    // SAFETY: PTX that ends with NUL.
    let kernels = unsafe { module::load_data(text.as_ptr().cast()) }.expect("the kernels load");
    // SAFETY: the signatures are those of runtime.cpp and flash_attention_3.cu.
    let (use_module, run): (Symbol<unsafe extern "C" fn(*mut c_void)>, Symbol<Forward>) =
        unsafe { (library.get(b"use_module").expect("there"), library.get(b"forward").expect("there")) };
    // SAFETY: a loaded module.
    unsafe { use_module(kernels.cast()) };
    for (queries, keys, mask) in [(200, 333, Mask::None), (250, 250, Mask::Causal)] {
        let mut random = Random(keys as u64);
        let mut matrix = |tokens: usize| random.halves(tokens * HEADS * reference::WIDTH, 1.0);
        let (q, k, v) = (matrix(queries), matrix(keys), matrix(keys));
        let (q_device, k_device, v_device) = (gpu.upload_halves(&q), gpu.upload_halves(&k), gpu.upload_halves(&v));
        let out = gpu.undefined::<u16>(q.len());
        let sums = gpu.undefined::<f32>(HEADS * queries);
        let semaphore = gpu.upload(&[0i32]);
        let [q_at, k_at, v_at, out_at] = [&q_device, &k_device, &v_device, &out].map(|slice| gpu.address(slice));
        let (sums_at, semaphore_at) = (gpu.address(&sums), gpu.address(&semaphore));
        let (m, n, heads, causal) = (queries as i32, keys as i32, HEADS as i32, i32::from(mask == Mask::Causal));
        // SAFETY: device addresses of the shapes that the function says.
        unsafe { run(q_at, k_at, v_at, out_at, sums_at, m, n, heads, causal, semaphore_at) };
        gpu.finish().unwrap_or_else(|refused| panic!("{mask:?}: error {}: {}", refused.code, refused.report));
        let result = widen(&gpu.download_halves(&out));
        expected(&q, &k, &v, keys, mask).compare(&result).unwrap_or_else(|how| panic!("{mask:?}: {how}"));
    }
}
