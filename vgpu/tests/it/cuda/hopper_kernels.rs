//! Kernels for compute capability 9.0 (hopper_*.cu) at odd sizes, against float64: right, and the same bits in every schedule.

use std::path::{Path, PathBuf};

use super::compiled::{Variant, compile_all};
use super::gpu::{Counts, Gpu};
use super::hopper::{Kind, Parameter, Shape, Swizzle, TensorMap, Tiled, matrix};
use super::kernels::Wrong;
use super::reference::{self, AttentionShape, Expected, widen};
use crate::children::in_children;
use crate::library::{kernels_directory, nvcc};
use crate::random::Random;

/// An H100, in all schedules that differ in when asynchronous operations happen.
pub const SIX_SCHEDULES: &[&[(&str, &str)]] = &[
    &[H100, ("VGPU_SCHED", "0")],
    &[H100, ("VGPU_SCHED", "1")],
    &[H100, ("VGPU_SCHED", "2")],
    &[H100, ("VGPU_SCHED", "3")],
    &[H100, ("VGPU_SCHED", "4")],
    &[H100, ("VGPU_SCHED", "5")],
];
const H100: (&str, &str) = ("VGPU_DEVICE", "h100");

const HALF: (Kind, u64) = (Kind::F16, 2);

/// How hopper_product.cu was compiled.
#[derive(Clone, Copy)]
pub struct Tile {
    pub options: &'static [&'static str],
    pub width: u32,
    pub stages: u32,
    pub cluster: u32,
}

pub const TILE: Tile = Tile { options: &[], width: 128, stages: 4, cluster: 1 };
pub const PAIR: Tile = Tile { options: &["-DCLUSTER=2"], width: 128, stages: 4, cluster: 2 };
const NARROW: Tile = Tile { options: &["-DWIDTH=64", "-DSTAGES=8"], width: 64, stages: 8, cluster: 1 };
const WIDE: Tile = Tile { options: &["-DWIDTH=256", "-DSTAGES=3"], width: 256, stages: 3, cluster: 1 };
const WIDE_PAIR: Tile =
    Tile { options: &["-DWIDTH=256", "-DSTAGES=3", "-DCLUSTER=2"], width: 256, stages: 3, cluster: 2 };

impl Tile {
    fn shape(self, rows: usize, columns: usize) -> Shape {
        let rows_of_blocks = (rows as u32).div_ceil(128).next_multiple_of(self.cluster);
        Shape {
            grid: [(columns as u32).div_ceil(self.width), rows_of_blocks, 1],
            threads: 384,
            shared: 1024 + self.stages * (128 + self.width) * 128 + 2 * 64 * 128,
            cluster: (self.cluster > 1).then_some([1, self.cluster, 1]),
            overlaps: false,
        }
    }

    fn maps(self, (a, b, out): (u64, u64, u64), (rows, columns, depth): (usize, usize, usize)) -> [TensorMap; 3] {
        [
            matrix(a, HALF, (rows, depth), [64, 128]),
            matrix(b, HALF, (columns, depth), [64, self.width / self.cluster]),
            matrix(out, HALF, (rows, columns), [64, 64]),
        ]
    }
}

/// What a right kernel leaves: its results' bits and the counts of its last launch.
pub struct Done {
    pub bits: Vec<u16>,
    pub counts: Counts,
}

fn finish(gpu: &Gpu, expected: &Expected, counts: Counts, out: &cudarc::driver::CudaSlice<u16>) -> Result<Done, Wrong> {
    let result = gpu.download_halves(out);
    expected.compare(&widen(&result)).map_err(Wrong::Differs)?;
    Ok(Done { bits: result.iter().map(|v| v.to_bits()).collect(), counts })
}

/// `spoil` may change what the kernel is given.
pub fn product(
    module: &Path,
    tile: Tile,
    size: (usize, usize, usize),
    spoil: fn(&mut [TensorMap; 3]),
) -> Result<Done, Wrong> {
    let (rows, columns, depth) = size;
    let mut random = Random(rows as u64);
    let (a, b) = (random.halves(rows * depth, 1.0), random.halves(columns * depth, 1.0));
    let bias = random.floats(columns, 2.0);

    let gpu = Gpu::new();
    let (a_device, b_device, bias_device) = (gpu.upload_halves(&a), gpu.upload_halves(&b), gpu.upload(&bias));
    let out = gpu.undefined::<u16>(rows * columns);
    let shape = tile.shape(rows, columns);
    let kernel = gpu.kernel(module, "hopper_product", shape.shared);
    let mut maps = tile.maps((gpu.address(&a_device), gpu.address(&b_device), gpu.address(&out)), size);
    spoil(&mut maps);
    let (bias_address, n, k) = (gpu.address(&bias_device), columns as i32, depth as i32);
    gpu.launch(&kernel, shape, &[&maps[0], &maps[1], &maps[2], &bias_address, &n, &k])?;
    let counts = gpu.finish()?;
    finish(&gpu, &reference::product(&a, &b, &bias, depth), counts, &out)
}

/// Which of the first launch's matrices the second one, which may overlap it, uses.
#[derive(Clone, Copy, PartialEq)]
pub enum Chain {
    /// It reads the first one's results.
    Reads,
    /// It writes over the first one's rows, having read others.
    Overwrites,
}

/// Two products of square matrices, the second launched to overlap the first.
pub fn chained_products(module: &Path, tile: Tile, chain: Chain) -> Result<Done, Wrong> {
    let (rows, side) = (200, 192);
    let mut random = Random(7);
    let (a, b) = (random.halves(rows * side, 1.0), random.halves(side * side, 0.1));
    let other = random.halves(rows * side, 1.0);
    let bias = random.floats(side, 2.0);

    let gpu = Gpu::new();
    let (a_device, b_device, bias_device) = (gpu.upload_halves(&a), gpu.upload_halves(&b), gpu.upload(&bias));
    let (other_device, first_out) = (gpu.upload_halves(&other), gpu.undefined::<u16>(rows * side));
    let second_out = gpu.undefined::<u16>(rows * side);
    let shape = tile.shape(rows, side);
    let kernel = gpu.kernel(module, "hopper_product", shape.shared);
    let launch = |from: u64, to: u64, overlaps: bool| {
        let [a_map, b_map, out_map] = tile.maps((from, gpu.address(&b_device), to), (rows, side, side));
        let (bias_address, n) = (gpu.address(&bias_device), side as i32);
        gpu.launch(&kernel, Shape { overlaps, ..shape }, &[&a_map, &b_map, &out_map, &bias_address, &n, &n])
    };
    launch(gpu.address(&a_device), gpu.address(&first_out), false)?;
    let (from, to) = match chain {
        Chain::Reads => (&first_out, &second_out),
        Chain::Overwrites => (&other_device, &a_device),
    };
    launch(gpu.address(from), gpu.address(to), true)?;
    let counts = gpu.finish()?;
    let first = gpu.download_halves(&first_out);
    let first_expected = reference::product(&a, &b, &bias, side);
    first_expected.compare(&widen(&first)).map_err(Wrong::Differs)?;
    let second = if chain == Chain::Reads { &first } else { &other };
    finish(&gpu, &reference::product(second, &b, &bias, side), counts, to)
}

pub fn attention(module: &Path, shape: AttentionShape) -> Result<Done, Wrong> {
    const HEAD: usize = reference::WIDTH;
    let AttentionShape { heads, queries, keys } = shape;
    let mut random = Random(keys as u64);
    let mut matrix = |tokens: usize| random.halves(tokens * heads * HEAD, 1.0);
    let (q, k, v) = (matrix(queries), matrix(keys), matrix(keys));

    let gpu = Gpu::new();
    let (q_device, k_device, v_device) = (gpu.upload_halves(&q), gpu.upload_halves(&k), gpu.upload_halves(&v));
    let out = gpu.undefined::<u16>(queries * heads * HEAD);
    let map = |slice: &cudarc::driver::CudaSlice<u16>, tokens: usize, rows: u32| {
        let (sizes, strides) = ([HEAD as u64, heads as u64, tokens as u64], [128, heads as u64 * 128]);
        let tile = [HEAD as u32, 1, rows];
        let tiled =
            Tiled { kind: Kind::F16, sizes: &sizes, strides: &strides, tile: &tile, swizzle: Swizzle::Bytes128 };
        tiled.encode(gpu.address(slice))
    };
    let maps =
        [map(&q_device, queries, 128), map(&k_device, keys, 64), map(&v_device, keys, 64), map(&out, queries, 64)];
    let launch = Shape {
        grid: [(queries as u32).div_ceil(128), heads as u32, 1],
        threads: 384,
        shared: 1024 + 128 * 128 + 2 * 2 * 64 * 128,
        ..Shape::default()
    };
    let kernel = gpu.kernel(module, "hopper_attention", launch.shared);
    let count = keys as i32;
    let parameters: [&dyn Parameter; 5] = [&maps[0], &maps[1], &maps[2], &maps[3], &count];
    gpu.launch(&kernel, launch, &parameters)?;
    let counts = gpu.finish()?;
    finish(&gpu, &reference::attention(&q, &k, &v, shape), counts, &out)
}

/// Where the tests' own variants are compiled to, and nvcc.
pub fn workshop() -> Option<(PathBuf, PathBuf)> {
    let (kernels, nvcc) = (kernels_directory()?, nvcc()?);
    Some((kernels.with_file_name("mutants"), nvcc))
}

pub fn unspoilt(_: &mut [TensorMap; 3]) {}

/// In each schedule right and without a report, in all of them the same bits.
fn in_all_schedules(test: &str, variants: &[Variant], body: impl Fn(&[PathBuf]) -> Vec<u16>) {
    let Some((into, nvcc)) = workshop() else { return };
    compile_all(variants, &nvcc, &into);
    let modules: Vec<PathBuf> = variants.iter().map(|v| v.compile(&nvcc, &into)).collect();
    let said = in_children(test, SIX_SCHEDULES, || {
        let hash = body(&modules).iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &bits| {
            // FNV-1a over 16-bit values.
            (hash ^ u64::from(bits)).wrapping_mul(0x100_0000_01b3)
        });
        eprintln!("bits {hash:016x}");
    });
    let bits = |stderr: &str| stderr.lines().find(|l| l.starts_with("bits ")).map(str::to_string);
    let of_each: Vec<Option<String>> = said.iter().map(|s| bits(&s.stderr)).collect();
    assert!(of_each.iter().all(|b| b.is_some() && *b == of_each[0]), "{of_each:?}");
}

fn right(what: &str, result: Result<Done, Wrong>) -> Vec<u16> {
    result.unwrap_or_else(|wrong| panic!("{what}: {wrong}")).bits
}

fn variant(tile: Tile) -> Variant {
    Variant { file: "hopper_product", number: 0, options: tile.options }
}

#[test]
fn a_product_by_warpgroups_is_right() {
    let tiles = [TILE, NARROW, WIDE];
    in_all_schedules("cuda::hopper_kernels::a_product_by_warpgroups_is_right", &tiles.map(variant), |modules| {
        let mut bits = Vec::new();
        for (module, tile) in modules.iter().zip(tiles) {
            for size in [(70, 72, 104), (133, 264, 328), (901, 136, 64)] {
                let what = format!("width {}, {size:?}", tile.width);
                bits.extend(right(&what, product(module, tile, size, unspoilt)));
            }
        }
        bits
    });
}

#[test]
fn a_product_by_pairs_of_blocks_is_right() {
    let tiles = [PAIR, WIDE_PAIR];
    in_all_schedules("cuda::hopper_kernels::a_product_by_pairs_of_blocks_is_right", &tiles.map(variant), |modules| {
        let mut bits = Vec::new();
        for (module, tile) in modules.iter().zip(tiles) {
            // The last pair's second block lies outside of the first one's rows altogether.
            for size in [(70, 72, 104), (301, 264, 328)] {
                let what = format!("pairs of width {}, {size:?}", tile.width);
                bits.extend(right(&what, product(module, tile, size, unspoilt)));
            }
        }
        bits
    });
}

#[test]
fn overlapping_products_are_right() {
    in_all_schedules("cuda::hopper_kernels::overlapping_products_are_right", &[variant(TILE)], |modules| {
        let chained = |chain| right("chained products", chained_products(&modules[0], TILE, chain));
        [chained(Chain::Reads), chained(Chain::Overwrites)].concat()
    });
}

#[test]
fn attention_by_warpgroups_is_right() {
    let variants = [Variant { file: "hopper_attention", number: 0, options: &[] }];
    in_all_schedules("cuda::hopper_kernels::attention_by_warpgroups_is_right", &variants, |modules| {
        let mut bits = Vec::new();
        for (heads, queries, keys) in [(2, 133, 197), (1, 1, 1), (1, 128, 64), (3, 70, 130)] {
            let shape = AttentionShape { heads, queries, keys };
            bits.extend(right(&format!("{shape:?}"), attention(&modules[0], shape)));
        }
        bits
    });
}

/// By hand: 2 × 1 blocks of 128×128, depth 130 in 3 tiles of 64.
#[test]
fn a_warpgroups_products_are_counted() {
    let Some((into, nvcc)) = workshop() else { return };
    compile_all(&[variant(TILE)], &nvcc, &into);
    let in_order: &[&[(&str, &str)]] = &[&[H100, ("VGPU_SCHED", "0")]];
    in_children("cuda::hopper_kernels::a_warpgroups_products_are_counted", in_order, || {
        let module = variant(TILE).compile(&nvcc, &into);
        let done = product(&module, TILE, (129, 8, 136), unspoilt);
        let counts = done.unwrap_or_else(|wrong| panic!("{wrong}")).counts;
        assert_eq!(counts["mma_flop"], 2 * 2 * 128 * 128 * (3 * 64));
    });
}
