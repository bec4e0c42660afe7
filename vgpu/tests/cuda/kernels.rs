//! The representative kernels at odd sizes, in two schedules, against float64; and what they count.

use std::fmt;
use std::path::Path;

use cudarc::driver::PushKernelArg;

use crate::gpu::{Counts, Gpu, Refused, SCHEDULES, in_children, kernels_directory, launch_config};
use crate::reference::{self, AttentionShape, HEAD, MapShape, Random};

/// Why a kernel is wrong.
#[derive(Debug)]
pub enum Wrong {
    Refused(Refused),
    Differs(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Refused(refused) => write!(f, "error {}: {}", refused.code, refused.report),
            Wrong::Differs(how) => f.write_str(how),
        }
    }
}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Wrong {
        Wrong::Refused(refused)
    }
}

/// A kernel's name, tile and dynamic shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    pub kernel: &'static str,
    pub tile: u32,
    pub threads: u32,
    pub shared: u32,
}

pub const LARGE_GEMM: Gemm = Gemm { kernel: "gemm_128x128", tile: 128, threads: 128, shared: 65536 };
pub const SMALL_GEMM: Gemm = Gemm { kernel: "gemm_64x64", tile: 64, threads: 64, shared: 49152 };

/// `size`: rows, columns, depth.
pub fn gemm(module: &Path, gemm: Gemm, size: (usize, usize, usize)) -> Result<Counts, Wrong> {
    let (rows, columns, depth) = size;
    let mut random = Random(rows as u64);
    let (a, b) = (random.halves(rows * depth, 1.0), random.halves(columns * depth, 1.0));
    let bias = random.floats(columns, 2.0);

    let gpu = Gpu::new();
    let kernel = gpu.kernel(module, gemm.kernel, gemm.shared);
    let (a_device, b_device, bias_device) = (gpu.upload_halves(&a), gpu.upload_halves(&b), gpu.upload(&bias));
    let mut out = gpu.undefined::<u16>(rows * columns);
    let (m, n, k) = (rows as i32, columns as i32, depth as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&a_device).arg(&b_device).arg(&bias_device).arg(&mut out).arg(&m).arg(&n).arg(&k);
    let grid = ((n as u32).div_ceil(gemm.tile), (m as u32).div_ceil(gemm.tile), 1);
    let counts = gpu.run(launch, launch_config(grid, gemm.threads, gemm.shared))?;
    let result = gpu.download_halves(&out);
    reference::linear(&a, &b, &bias, depth).compare(&result).map_err(Wrong::Differs)?;
    Ok(counts)
}

/// Compared at every `step`-th query.
pub fn attention(module: &Path, shape: AttentionShape, step: usize) -> Result<Counts, Wrong> {
    let AttentionShape { batch, tokens, heads, causal } = shape;
    let qkv = Random(tokens as u64).halves(batch * tokens * 3 * heads * HEAD, 2.0);
    let (name, queries, shared) = if causal { ("attention_causal", 64, 40960) } else { ("attention_full", 128, 49152) };
    let scale = 0.125f32;

    let gpu = Gpu::new();
    let kernel = gpu.kernel(module, name, shared);
    let qkv_device = gpu.upload_halves(&qkv);
    let mut out = gpu.undefined::<u16>(batch * tokens * heads * HEAD);
    let n = tokens as i32;
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&qkv_device).arg(&mut out).arg(&n).arg(&scale);
    let grid = ((n as u32).div_ceil(queries), heads as u32, batch as u32);
    let counts = gpu.run(launch, launch_config(grid, 128, shared))?;
    let result = gpu.download_halves(&out);
    let compared = (0..tokens).step_by(step);
    let rows = (0..batch).flat_map(|b| compared.clone().map(move |t| b * tokens + t));
    let result: Vec<_> = rows.flat_map(|row| &result[row * heads * HEAD..(row + 1) * heads * HEAD]).copied().collect();
    reference::attention(&qkv, shape, scale, compared).compare(&result).map_err(Wrong::Differs)?;
    Ok(counts)
}

pub fn layer_norm(module: &Path, rows: usize, width: usize) -> Result<Counts, Wrong> {
    let mut random = Random(width as u64);
    // A mean far from 0 shows whether the variance is that of the differences.
    let x: Vec<f32> = random.floats(rows * width, 1.0).iter().map(|v| v + 4.0).collect();
    let (gain, shift) = (random.floats(width, 2.0), random.floats(width, 1.0));
    let epsilon = 1e-6f32;

    let gpu = Gpu::new();
    let name = match width {
        0..=256 => "layer_norm_256",
        257..=1024 => "layer_norm_1024",
        _ => "layer_norm_4096",
    };
    let kernel = gpu.kernel(module, name, 0);
    let (x_device, gain_device, shift_device) = (gpu.upload(&x), gpu.upload(&gain), gpu.upload(&shift));
    let mut out = gpu.undefined::<u16>(rows * width);
    let (r, w) = (rows as i32, width as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&x_device).arg(&gain_device).arg(&shift_device).arg(&mut out).arg(&r).arg(&w).arg(&epsilon);
    let counts = gpu.run(launch, launch_config(((r as u32).div_ceil(4), 1, 1), 128, 0))?;
    let result = gpu.download_halves(&out);
    reference::layer_norm(&x, &gain, &shift, epsilon).compare(&result).map_err(Wrong::Differs)?;
    Ok(counts)
}

pub fn depthwise(module: &Path, shape: MapShape) -> Result<Counts, Wrong> {
    let mut random = Random(shape.width as u64);
    let x = random.halves(shape.elements(), 1.0);
    let (weights, bias) = (random.halves(9 * shape.channels, 1.0), random.floats(shape.channels, 1.0));

    let gpu = Gpu::new();
    let kernel = gpu.kernel(module, "depthwise", 0);
    let (x_device, weights_device, bias_device) =
        (gpu.upload_halves(&x), gpu.upload_halves(&weights), gpu.upload(&bias));
    let mut out = gpu.undefined::<u16>(shape.elements());
    let (h, w, c) = (shape.height as i32, shape.width as i32, shape.channels as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&x_device).arg(&weights_device).arg(&bias_device).arg(&mut out).arg(&h).arg(&w).arg(&c);
    let tiles = (w as u32).div_ceil(16) * (h as u32).div_ceil(8);
    let counts = gpu.run(launch, launch_config((tiles, (c as u32).div_ceil(64), shape.batch as u32), 128, 0))?;
    let result = gpu.download_halves(&out);
    reference::depthwise(&x, &weights, &bias, shape).compare(&result).map_err(Wrong::Differs)?;
    Ok(counts)
}

pub fn upsample(module: &Path, shape: MapShape) -> Result<Counts, Wrong> {
    let x = Random(shape.width as u64).halves(shape.elements(), 1.0);

    let gpu = Gpu::new();
    let kernel = gpu.kernel(module, "upsample", 0);
    let x_device = gpu.upload_halves(&x);
    let mut out = gpu.undefined::<u16>(4 * shape.elements());
    let (h, w, c) = (shape.height as i32, shape.width as i32, shape.channels as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&x_device).arg(&mut out).arg(&h).arg(&w).arg(&c);
    let blocks = (2 * w as u32 * (c as u32 / 8)).div_ceil(256);
    let counts = gpu.run(launch, launch_config((blocks, 2 * h as u32, shape.batch as u32), 256, 0))?;
    let result = gpu.download_halves(&out);
    reference::upsample(&x, shape).compare(&result).map_err(Wrong::Differs)?;
    Ok(counts)
}

/// Every shared access in as few passes as its bytes need.
pub fn has_no_conflicts(counts: &Counts) -> bool {
    counts["shared_conflicts"] == 0
}

fn right(what: &str, result: Result<Counts, Wrong>) -> Counts {
    result.unwrap_or_else(|wrong| panic!("{what}: {wrong}"))
}

/// Lanes that diverge meet again at once, as on a GPU: the other schedules keep them apart, which costs memory accesses.
const IN_STEP: &[&[(&str, &str)]] = &[&[("VGPU_SCHED", "0")]];

#[test]
fn memory_is_used_well() {
    let Some(kernels) = kernels_directory() else { return };
    let file = |name: &str| kernels.join(name);
    in_children("kernels::memory_is_used_well", IN_STEP, || {
        let map = MapShape { batch: 1, height: 17, width: 35, channels: 80 };
        let shape = |tokens, causal| AttentionShape { batch: 1, tokens, heads: 2, causal };
        // Rows that start at sectors of memory, as the product's do; others cost a sector more each time they are touched.
        for (what, result) in [
            ("gemm_128x128", gemm(&file("gemm.ptx"), LARGE_GEMM, (130, 100, 272))),
            ("gemm_64x64", gemm(&file("gemm.ptx"), SMALL_GEMM, (130, 101, 272))),
            ("attention_full", attention(&file("attention.ptx"), shape(200, false), 1)),
            ("attention_causal", attention(&file("attention.ptx"), shape(77, true), 1)),
            ("layer_norm", layer_norm(&file("layer_norm.ptx"), 9, 1024)),
            ("depthwise", depthwise(&file("depthwise_upsample.ptx"), map)),
            ("upsample", upsample(&file("depthwise_upsample.ptx"), map)),
        ] {
            let counts = right(what, result);
            assert!(has_no_conflicts(&counts), "{what}: {} bank conflicts", counts["shared_conflicts"]);
            // At least nine tenths of the 32-byte sectors that loads ask for are needed.
            let (least, sectors) = (counts["global_load_least_sectors"], counts["global_load_sectors"]);
            assert!(10 * least >= 9 * sectors, "{what}: loads of {sectors} sectors, {least} would do");
        }
    });
}

#[test]
fn gemm_is_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("gemm.ptx");
    in_children("kernels::gemm_is_right", SCHEDULES, || {
        let cases = [
            (LARGE_GEMM, (901, 200, 264)),
            (LARGE_GEMM, (1, 8, 8)),
            (LARGE_GEMM, (130, 133, 40)),
            (SMALL_GEMM, (901, 200, 264)),
            (SMALL_GEMM, (1, 1000, 72)),
            (SMALL_GEMM, (77, 151, 200)),
        ];
        for (kernel, size) in cases {
            right(&format!("{} {size:?}", kernel.kernel), gemm(&module, kernel, size));
        }
    });
}

#[test]
fn gemm_multiplies_whole_tiles_and_reuses_its_fragments() {
    let Some(kernels) = kernels_directory() else { return };
    in_children("kernels::gemm_multiplies_whole_tiles_and_reuses_its_fragments", IN_STEP, || {
        let counts = right("gemm", gemm(&kernels.join("gemm.ptx"), LARGE_GEMM, (129, 8, 72)));
        let flop = 2 * 256 * 128 * 96;
        assert_eq!(counts["mma_flop"], flop);
        assert_eq!(counts["mma"] * 4096, flop);
        // Shared memory keeps up with tensor cores.
        assert_eq!(counts["ldmatrix"] * 4, counts["mma"]);
    });
}

#[test]
fn attention_is_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("attention.ptx");
    in_children("kernels::attention_is_right", SCHEDULES, || {
        let shape = |batch, tokens, heads, causal| AttentionShape { batch, tokens, heads, causal };
        for (shape, step) in [
            (shape(1, 901, 2, false), 1),
            (shape(2, 77, 3, true), 1),
            (shape(2, 1, 1, false), 1),
            (shape(1, 1, 1, true), 1),
            (shape(1, 64, 1, false), 1),
            (shape(2, 130, 1, true), 1),
        ] {
            let what = format!("attention {shape:?}");
            right(&what, attention(&module, shape, step));
        }
    });
}

#[test]
fn attention_to_many_tokens_is_right() {
    let Some(kernels) = kernels_directory() else { return };
    let shape = AttentionShape { batch: 1, tokens: 4097, heads: 1, causal: false };
    right("attention, 4097 tokens", attention(&kernels.join("attention.ptx"), shape, 61));
}

#[test]
fn layer_norm_is_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("layer_norm.ptx");
    in_children("kernels::layer_norm_is_right", SCHEDULES, || {
        for (rows, width) in [(901, 1024), (1, 192), (5, 768), (3, 4096), (7, 1028), (2, 4)] {
            let what = format!("layer norm, {rows} rows of {width}");
            right(&what, layer_norm(&module, rows, width));
        }
    });
}

#[test]
fn depthwise_is_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("depthwise_upsample.ptx");
    in_children("kernels::depthwise_is_right", SCHEDULES, || {
        for (batch, height, width, channels) in [(1, 30, 37, 72), (2, 9, 17, 8), (1, 1, 1, 64), (3, 8, 16, 136)] {
            let shape = MapShape { batch, height, width, channels };
            right(&format!("depthwise {shape:?}"), depthwise(&module, shape));
        }
    });
}

#[test]
fn upsampling_is_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("depthwise_upsample.ptx");
    in_children("kernels::upsampling_is_right", SCHEDULES, || {
        for (batch, height, width, channels) in [(1, 15, 19, 256), (2, 7, 5, 8), (1, 1, 1, 64), (1, 2, 33, 24)] {
            let shape = MapShape { batch, height, width, channels };
            let what = format!("upsampling {shape:?}");
            right(&what, upsample(&module, shape));
        }
    });
}
