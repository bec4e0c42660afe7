//! Small kernels with what large ones are made of, at odd sizes, in two schedules, against float64; and what they count.

use std::fmt;
use std::path::Path;

use cudarc::driver::PushKernelArg;

use super::gpu::{Counts, Gpu, Refused, launch_config};
use super::reference::{self, Expected, ImageShape, WIDTH, WeightedShape, widen};
use crate::children::{SCHEDULES, in_children};
use crate::library::kernels_directory;
use crate::random::Random;

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

fn compare(expected: &Expected, result: Vec<f64>, counts: Counts) -> Result<Counts, Wrong> {
    expected.compare(&result).map_err(Wrong::Differs)?;
    Ok(counts)
}

/// `size`: rows, columns, depth.
pub fn product(module: &Path, size: (usize, usize, usize)) -> Result<Counts, Wrong> {
    let (rows, columns, depth) = size;
    let mut random = Random(rows as u64);
    let (a, b) = (random.halves(rows * depth, 1.0), random.halves(columns * depth, 1.0));
    let bias = random.floats(columns, 2.0);

    let gpu = Gpu::new();
    let kernel = gpu.kernel(module, "product", 0);
    let (a_device, b_device, bias_device) = (gpu.upload_halves(&a), gpu.upload_halves(&b), gpu.upload(&bias));
    let mut out = gpu.undefined::<u16>(rows * columns);
    let (m, n, k) = (rows as i32, columns as i32, depth as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&a_device).arg(&b_device).arg(&bias_device).arg(&mut out).arg(&m).arg(&n).arg(&k);
    let counts = gpu.run(launch, launch_config(((n as u32).div_ceil(64), (m as u32).div_ceil(32), 1), 64, 0))?;
    compare(&reference::product(&a, &b, &bias, depth), widen(&gpu.download_halves(&out)), counts)
}

pub fn weighted(module: &Path, shape: WeightedShape) -> Result<Counts, Wrong> {
    let WeightedShape { batch, queries, keys } = shape;
    let mut random = Random(keys as u64);
    let (scores, v) = (random.floats(batch * queries * keys, 4.0), random.halves(batch * keys * WIDTH, 2.0));

    let gpu = Gpu::new();
    let kernel = gpu.kernel(module, "weighted", 0);
    let (scores_device, v_device) = (gpu.upload(&scores), gpu.upload_halves(&v));
    let mut out = gpu.undefined::<u16>(batch * queries * WIDTH);
    let (q, k) = (queries as i32, keys as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&scores_device).arg(&v_device).arg(&mut out).arg(&q).arg(&k);
    let counts = gpu.run(launch, launch_config(((q as u32).div_ceil(32), batch as u32, 1), 64, 0))?;
    compare(&reference::weighted(&scores, &v, shape), widen(&gpu.download_halves(&out)), counts)
}

pub fn standardise(module: &Path, rows: usize, width: usize) -> Result<Counts, Wrong> {
    // A mean far from 0 shows whether the variance is that of the differences.
    let x: Vec<f32> = Random(width as u64).floats(rows * width, 1.0).iter().map(|v| v + 4.0).collect();
    let epsilon = 1e-6f32;

    let gpu = Gpu::new();
    let kernel = gpu.kernel(module, "standardise", 0);
    let x_device = gpu.upload(&x);
    let mut out = gpu.undefined::<u16>(rows * width);
    let w = width as i32;
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&x_device).arg(&mut out).arg(&w).arg(&epsilon);
    let counts = gpu.run(launch, launch_config((rows as u32, 1, 1), 128, 0))?;
    compare(&reference::standardise(&x, width, epsilon), widen(&gpu.download_halves(&out)), counts)
}

pub fn filter(module: &Path, shape: ImageShape) -> Result<Counts, Wrong> {
    let mut random = Random(shape.width as u64);
    let (x, weights) = (random.floats(shape.elements(), 1.0), random.floats(9, 1.0));

    let gpu = Gpu::new();
    let kernel = gpu.kernel(module, "filter", 0);
    let (x_device, weights_device) = (gpu.upload(&x), gpu.upload(&weights));
    let mut out = gpu.undefined::<f32>(shape.elements());
    let (h, w) = (shape.height as i32, shape.width as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&x_device).arg(&weights_device).arg(&mut out).arg(&h).arg(&w);
    let grid = ((w as u32).div_ceil(16), (h as u32).div_ceil(8), shape.batch as u32);
    let counts = gpu.run(launch, launch_config(grid, 256, 0))?;
    compare(&reference::filter(&x, &weights, shape), gpu.download_floats(&out), counts)
}

pub fn enlarge(module: &Path, shape: ImageShape) -> Result<Counts, Wrong> {
    let x = Random(shape.width as u64).floats(shape.elements(), 1.0);

    let gpu = Gpu::new();
    let kernel = gpu.kernel(module, "enlarge", 0);
    let x_device = gpu.upload(&x);
    let mut out = gpu.undefined::<f32>(4 * shape.elements());
    let (h, w) = (shape.height as i32, shape.width as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&x_device).arg(&mut out).arg(&h).arg(&w);
    let grid = ((4 * w as u32).div_ceil(256), 2 * h as u32, shape.batch as u32);
    let counts = gpu.run(launch, launch_config(grid, 256, 0))?;
    compare(&reference::enlarge(&x, shape), gpu.download_floats(&out), counts)
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
    in_children("cuda::kernels::memory_is_used_well", IN_STEP, || {
        let image = ImageShape { batch: 1, height: 17, width: 35 };
        // Rows that start at sectors of memory; others cost a sector more each time they are touched.
        for (what, result) in [
            ("product", product(&file("product.ptx"), (130, 128, 272))),
            ("weighted", weighted(&file("weighted.ptx"), WeightedShape { batch: 1, queries: 200, keys: 200 })),
            ("standardise", standardise(&file("standardise.ptx"), 9, 1024)),
            ("filter", filter(&file("images.ptx"), image)),
            ("enlarge", enlarge(&file("images.ptx"), image)),
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
fn a_product_is_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("product.ptx");
    in_children("cuda::kernels::a_product_is_right", SCHEDULES, || {
        for size in [(301, 200, 264), (1, 8, 8), (130, 136, 40), (1, 1000, 72), (77, 152, 200)] {
            right(&format!("product {size:?}"), product(&module, size));
        }
    });
}

/// The counts of a launch whose work is known by hand: 2 × 1 tiles of 32×64, depth 72 in 3 tiles of 32, 2 warps.
#[test]
fn a_product_multiplies_whole_tiles_and_its_instructions_are_counted() {
    let Some(kernels) = kernels_directory() else { return };
    in_children("cuda::kernels::a_product_multiplies_whole_tiles_and_its_instructions_are_counted", IN_STEP, || {
        let counts = right("product", product(&kernels.join("product.ptx"), (33, 8, 72)));
        let flop = 2 * 64 * 64 * 96;
        assert_eq!(counts["mma_flop"], flop);
        assert_eq!(counts["mma"] * 4096, flop);
        // One for a's fragment, four for b's: eight products.
        assert_eq!(counts["ldmatrix"] * 8, counts["mma"] * 5);
        // A stage is 96 rows of 64 bytes, copied or zeroed; what is read lies inside of the matrices, and 8 bytes of the bias a lane.
        assert_eq!(counts["cp_async_bytes"], 2 * 3 * 96 * 64);
        assert_eq!(counts["global_load_bytes"], (33 + 2 * 8) * 72 * 2 + 2 * 64 * 8);
        assert_eq!(counts["global_store_bytes"], 33 * 8 * 2);
        // One a tile, and one before the results.
        assert_eq!(counts["barriers"], 2 * (3 + 1));
        assert_eq!(counts["barrier"], 2 * (2 * (3 + 1) + 2));
    });
}

#[test]
fn weighted_sums_are_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("weighted.ptx");
    in_children("cuda::kernels::weighted_sums_are_right", SCHEDULES, || {
        for (batch, queries, keys) in [(1, 301, 302), (2, 77, 78), (2, 1, 2), (1, 64, 64), (2, 130, 16)] {
            let shape = WeightedShape { batch, queries, keys };
            right(&format!("weighted {shape:?}"), weighted(&module, shape));
        }
    });
}

#[test]
fn weighted_sums_of_many_keys_are_right() {
    let Some(kernels) = kernels_directory() else { return };
    let shape = WeightedShape { batch: 1, queries: 67, keys: 4098 };
    right("weighted, 4098 keys", weighted(&kernels.join("weighted.ptx"), shape));
}

#[test]
fn standardised_rows_are_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("standardise.ptx");
    in_children("cuda::kernels::standardised_rows_are_right", SCHEDULES, || {
        for (rows, width) in [(301, 1024), (1, 192), (5, 768), (3, 2048), (7, 1028), (2, 4)] {
            right(&format!("standardise, {rows} rows of {width}"), standardise(&module, rows, width));
        }
    });
}

#[test]
fn a_filtered_image_is_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("images.ptx");
    in_children("cuda::kernels::a_filtered_image_is_right", SCHEDULES, || {
        for (batch, height, width) in [(1, 30, 37), (2, 9, 17), (1, 1, 1), (3, 8, 16)] {
            let shape = ImageShape { batch, height, width };
            right(&format!("filter {shape:?}"), filter(&module, shape));
        }
    });
}

#[test]
fn an_enlarged_image_is_right() {
    let Some(kernels) = kernels_directory() else { return };
    let module = kernels.join("images.ptx");
    in_children("cuda::kernels::an_enlarged_image_is_right", SCHEDULES, || {
        for (batch, height, width) in [(1, 15, 190), (2, 7, 5), (1, 1, 1), (1, 2, 33)] {
            let shape = ImageShape { batch, height, width };
            right(&format!("enlarge {shape:?}"), enlarge(&module, shape));
        }
    });
}
