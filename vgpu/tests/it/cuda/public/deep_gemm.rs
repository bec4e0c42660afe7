//! DeepGEMM's kernels for compute capability 9.0, in one of the shapes that its heuristics choose from.

use std::path::{Path, PathBuf};

use vgpu_cuda::fault::Check;

use super::integers::{Product, bf16, e4m3};
use super::{Workshop, assert_reported, entry};
use crate::cuda::gpu::{Counts, Gpu, Refused};
use crate::cuda::hopper::{Kind, Parameter, Shape, Swizzle, TensorMap, Tiled, matrix};

/// Rows that end within a tile; three blocks of depth more than stages.
const SIZE: (usize, usize, usize) = (200, 256, 896);
const BLOCKS: u32 = 4;
/// What the tests' shapes need at most: 227 KiB.
const SHARED: u32 = 232_448;

/// As it is, a block may end while its last bulk store still reads shared memory; the second one waits.
fn compile(shop: &Workshop, header: &str, arguments: &str) -> [PathBuf; 2] {
    let path = shop.sources.join(format!("DeepGEMM/deep_gemm/include/deep_gemm/impls/{header}.cuh"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let theirs = "cute::tma_store_arrive();";
    assert!(text.contains(theirs), "{header} has no {theirs}");
    let mended = text.replace(theirs, &format!("{theirs} cute::tma_store_wait<0>();"));
    let instance =
        format!("static void instantiate() {{ auto kernel = reinterpret_cast<void*>(&{header}_impl<{arguments}>); }}");
    [text, mended].map(|text| compile_text(shop, header, &format!("{text}\nusing namespace deep_gemm;\n{instance}\n")))
}

fn compile_text(shop: &Workshop, name: &str, text: &str) -> PathBuf {
    let include = |path: &str| format!("-I{}", shop.sources.join(path).display());
    let options = [
        "-std=c++20".to_string(),
        "--expt-relaxed-constexpr".to_string(),
        include("DeepGEMM/deep_gemm/include"),
        include("cutlass/include"),
    ];
    shop.hopper(name, text, &options)
}

fn shape(cluster: u32) -> Shape {
    let cluster = Some([cluster, 1, 1]);
    Shape { grid: [BLOCKS, 1, 1], threads: 384, shared: SHARED, cluster, overlaps: false }
}

fn launch(gpu: &Gpu, module: &Path, cluster: u32, parameters: &[&dyn Parameter]) -> Result<Counts, Refused> {
    let function = gpu.kernel(module, &entry(module, "_gemm_"), SHARED);
    gpu.launch(&function, shape(cluster), parameters)?;
    gpu.finish()
}

/// Runs it as it is, which is reported, and mended.
fn run(modules: &[PathBuf; 2], one: impl Fn(&Path) -> Result<Counts, Refused>) {
    assert_reported(one(&modules[0]), Check::AsyncPending);
    one(&modules[1]).unwrap_or_else(|refused| panic!("error {}: {}", refused.code, refused.report));
}

fn expect(
    what: &str,
    rows: usize,
    columns: usize,
    got: impl Fn(usize, usize) -> f32,
    expected: impl Fn(usize, usize) -> f32,
) {
    for row in 0..rows {
        for column in 0..columns {
            let (got, expected) = (got(row, column), expected(row, column));
            assert_eq!(got, expected, "{what}: row {row}, column {column}");
        }
    }
}

fn rounded(value: f32) -> f32 {
    half::bf16::from_f32(value).to_f32()
}

/// bf16, pairs of blocks that share b.
pub fn bf16_by_pairs(shop: &Workshop) {
    let arguments = format!(
        "cute::UMMA::Major::K, cute::UMMA::Major::K, 0, 0, 0, 1, 128, 128, 64, 128, 128, 128, 4, 128, 256, 2, false, {BLOCKS}, \
         GemmType::Normal, false, cutlass::bfloat16_t"
    );
    let modules = compile(shop, "sm90_bf16_gemm", &arguments);
    run(&modules, |module| {
        let (m, n, k) = SIZE;
        let product = Product::new(m, n, k);
        let gpu = Gpu::new();
        let (a, b) = (gpu.upload(&bf16(&product.a)), gpu.upload(&bf16(&product.b)));
        let out = gpu.undefined::<u16>(m * n);
        let element = (Kind::Bf16, 2);
        let a_map = matrix(gpu.address(&a), element, (m, k), [64, 128]);
        let b_map = matrix(gpu.address(&b), element, (n, k), [64, 128]);
        let out_map = matrix(gpu.address(&out), element, (m, n), [64, 128]);
        let (layout, rows, columns, depth) = (0u64, m as i32, n as i32, k as i32);
        let counts = launch(&gpu, module, 2, &[&layout, &rows, &columns, &depth, &a_map, &b_map, &out_map])?;
        let got = gpu.stream.clone_dtoh(&out).expect("a copy");
        let got = |row: usize, column: usize| half::bf16::from_bits(got[row * n + column]).to_f32();
        expect("bf16", m, n, got, |row, column| rounded(product.sum(row, column, 0, k) as f32));
        Ok(counts)
    });
}

/// Scales of 128 elements: powers of two, so that sums stay exact.
fn scale(index: usize) -> f32 {
    [1.0, 2.0, 0.5][index % 3]
}

/// `lines` × `blocks` scales with the lines side by side, as bulk copies need them.
fn scales(lines: usize, blocks: usize, salt: usize) -> Vec<f32> {
    (0..blocks * lines).map(|i| scale(i % lines + i / lines + salt)).collect()
}

fn scales_map(gpu: &Gpu, scales: &cudarc::driver::CudaSlice<f32>, lines: usize, blocks: usize) -> TensorMap {
    let (sizes, strides) = ([lines as u64, blocks as u64], [4 * lines as u64]);
    let tiled = Tiled { kind: Kind::F32, sizes: &sizes, strides: &strides, tile: &[128, 1], swizzle: Swizzle::None };
    tiled.encode(gpu.address(scales))
}

/// Of e4m3, a scale for each row and 128 of depth of a; `b_scale` for b.
fn scaled(product: &Product, row: usize, column: usize, b_scale: impl Fn(usize) -> f32) -> f32 {
    let blocks = product.depth / 128;
    (0..blocks).map(|k| product.sum(row, column, 128 * k, 128) as f32 * scale(row + k) * b_scale(k)).sum()
}

/// e4m3, b with a scale for each 128×128; results in bf16.
pub fn fp8_1d2d(shop: &Workshop) {
    let arguments = format!(
        "cute::UMMA::Major::K, 0, 0, 0, 1, 128, 128, 128, 128, 128, 128, 4, 128, 256, 2, false, {BLOCKS}, GemmType::Normal, \
         cutlass::bfloat16_t, epilogue::transform::EpilogueIdentity"
    );
    let modules = compile(shop, "sm90_fp8_gemm_1d2d", &arguments);
    run(&modules, |module| {
        let (m, n, k) = SIZE;
        let product = Product::new(m, n, k);
        let gpu = Gpu::new();
        let (a, b) = (gpu.upload(&e4m3(&product.a)), gpu.upload(&e4m3(&product.b)));
        let out = gpu.undefined::<u16>(m * n);
        let blocks = k / 128;
        let a_scales = gpu.upload(&scales(m, blocks, 0));
        let b_scales: Vec<f32> = (0..n / 128 * blocks).map(|i| scale(i / blocks + 2 * (i % blocks))).collect();
        let b_scales = gpu.upload(&b_scales);
        let element = (Kind::U8, 1);
        let a_map = matrix(gpu.address(&a), element, (m, k), [128, 128]);
        let b_map = matrix(gpu.address(&b), element, (n, k), [128, 128]);
        let out_map = matrix(gpu.address(&out), (Kind::Bf16, 2), (m, n), [64, 128]);
        let a_scales_map = scales_map(&gpu, &a_scales, m, blocks);
        let (b_address, layout, rows, columns, depth) = (gpu.address(&b_scales), 0u64, m as i32, n as i32, k as i32);
        let parameters: [&dyn Parameter; 9] =
            [&b_address, &layout, &rows, &columns, &depth, &a_map, &b_map, &out_map, &a_scales_map];
        let counts = launch(&gpu, module, 2, &parameters)?;
        let got = gpu.stream.clone_dtoh(&out).expect("a copy");
        let got = |row: usize, column: usize| half::bf16::from_bits(got[row * n + column]).to_f32();
        let expected = |row, column: usize| rounded(scaled(&product, row, column, |k| scale(column / 128 + 2 * k)));
        expect("fp8, 1d2d", m, n, got, expected);
        Ok(counts)
    });
}

/// e4m3, b with a scale for each row and 128 of depth; results added to f32 by a bulk reduction.
pub fn fp8_1d1d(shop: &Workshop) {
    let arguments =
        format!("0, 0, 0, 1, 128, 128, 128, 128, 128, 4, 128, 256, 1, false, {BLOCKS}, GemmType::Normal, float");
    let modules = compile(shop, "sm90_fp8_gemm_1d1d", &arguments);
    run(&modules, |module| {
        let (m, n, k) = SIZE;
        let product = Product::new(m, n, k);
        let gpu = Gpu::new();
        let (a, b) = (gpu.upload(&e4m3(&product.a)), gpu.upload(&e4m3(&product.b)));
        let out = gpu.upload(&vec![1f32; m * n]);
        let blocks = k / 128;
        let (a_scales, b_scales) = (gpu.upload(&scales(m, blocks, 0)), gpu.upload(&scales(n, blocks, 1)));
        let element = (Kind::U8, 1);
        let a_map = matrix(gpu.address(&a), element, (m, k), [128, 128]);
        let b_map = matrix(gpu.address(&b), element, (n, k), [128, 128]);
        let (sizes, strides) = ([n as u64, m as u64], [4 * n as u64]);
        let out_tiles =
            Tiled { kind: Kind::F32, sizes: &sizes, strides: &strides, tile: &[128, 64], swizzle: Swizzle::None };
        let out_map = out_tiles.encode(gpu.address(&out));
        let (a_scales_map, b_scales_map) =
            (scales_map(&gpu, &a_scales, m, blocks), scales_map(&gpu, &b_scales, n, blocks));
        let (a_address, b_address, nowhere) = (gpu.address(&a), gpu.address(&b), 0u64);
        let (rows, columns, depth) = (m as i32, n as i32, k as i32);
        let parameters: [&dyn Parameter; 12] = [
            &a_address,
            &b_address,
            &nowhere,
            &nowhere,
            &rows,
            &columns,
            &depth,
            &a_map,
            &b_map,
            &a_scales_map,
            &b_scales_map,
            &out_map,
        ];
        let counts = launch(&gpu, module, 1, &parameters)?;
        let got = gpu.stream.clone_dtoh(&out).expect("a copy");
        let expected = |row, column: usize| 1.0 + scaled(&product, row, column, |k| scale(column + k + 1));
        expect("fp8, 1d1d", m, n, |row, column| got[row * n + column], expected);
        Ok(counts)
    });
}
