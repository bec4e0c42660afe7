//! Kernels of fast.cu, one after the other as their author made them faster: products of bf16, results by columns.

use super::integers::{Product, bf16};
use super::{Workshop, entry};
use crate::cuda::gpu::{Counts, Gpu, Refused};
use crate::cuda::hopper::{Kind, Parameter, Shape, Swizzle, TensorMap, Tiled};
use vgpu_cuda::fault::Check;

const PRELUDE: &str = "#include <cuda.h>\n#include <cudaTypedefs.h>\n#include <cuda/barrier>\n#include <cuda_bf16.h>\n\
    #include <cassert>\n#include <cstdio>\n#include <cstring>\n#include <string>\n#include <vector>\n#include <iostream>\n\
    #include <unistd.h>\n#include <cuda_runtime.h>\ntypedef __nv_bfloat16 bf16;\n\
    #define CEIL_DIV(M, N) (((M) + (N)-1) / (N))\n#define cudaCheck(err) (err)\n";

/// How the author's host code describes a matrix of `rows` rows to a kernel.
#[derive(Clone, Copy, PartialEq)]
enum Maps {
    /// Two dimensions, in global memory.
    Copied,
    /// Two dimensions.
    Plain,
    /// Panels of 64 columns: `rank` 3, or 5.
    Panels { rank: usize },
}

struct Kernel {
    number: usize,
    /// Of the tile.
    rows: u32,
    columns: u32,
    size: (usize, usize, usize),
    grid: u32,
    threads: u32,
    maps: Maps,
    /// Text that the test puts in the place of other text.
    mended: &'static [(&'static str, &'static str)],
    /// Mended by [`LAST`].
    waits: bool,
}

fn map(kernel: &Kernel, address: u64, rows: usize, width: usize, tile: u32, swizzle: Swizzle, inner: u32) -> TensorMap {
    let (rows, width) = (rows as u64, width as u64);
    match kernel.maps {
        Maps::Copied | Maps::Plain => {
            let (sizes, strides) = ([width, rows], [2 * width]);
            Tiled { kind: Kind::Bf16, sizes: &sizes, strides: &strides, tile: &[inner, tile], swizzle }.encode(address)
        }
        Maps::Panels { rank } => {
            let (sizes, strides) = ([64, rows, width / 64, 1, 1], [2 * width, 128, 0, 0]);
            let tile = [inner, tile, 1, 1, 1];
            let tiled = Tiled {
                kind: Kind::Bf16,
                sizes: &sizes[..rank],
                strides: &strides[..rank - 1],
                tile: &tile[..rank],
                swizzle,
            };
            tiled.encode(address)
        }
    }
}

/// Launches it; compares what it left, if it ended well.
fn launch(shop: &Workshop, kernel: &Kernel) -> Result<Counts, Refused> {
    let Kernel { number, size: (m, n, k), .. } = *kernel;
    let path = shop.sources.join(format!("fast.cu/examples/matmul/matmul_{number}.cuh"));
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for (theirs, ours) in kernel.mended {
        assert!(text.contains(theirs), "{} has no {theirs}", path.display());
        text = text.replace(theirs, ours);
    }
    if kernel.waits {
        let after = ["\n}\n\nvoid runKernel", "\n}\n\n// Rotate"];
        let end = after.iter().filter_map(|after| text.find(after)).min().expect("the kernel ends");
        text.insert_str(end, LAST);
    }
    // Their host code says `assert` of names that do not exist.
    let options = ["-std=c++17".to_string(), "-DNDEBUG".to_string()];
    let options = if number < 11 { &options[..1] } else { &options[..] };
    let module = shop.hopper(&format!("matmul_{number}"), &(PRELUDE.to_string() + &text), options);

    let product = Product::new(m, n, k);
    let gpu = Gpu::new();
    let (a, b) = (gpu.upload(&bf16(&product.a)), gpu.upload(&bf16(&product.b)));
    let out = gpu.undefined::<u16>(m * n);
    let a_map = map(kernel, gpu.address(&a), m, k, kernel.rows, Swizzle::Bytes128, 64);
    let b_map = map(kernel, gpu.address(&b), n, k, kernel.columns, Swizzle::Bytes128, 64);
    // The third one measures its steps.
    let cycles = gpu.undefined::<i32>(6 * kernel.grid as usize);
    let copies = [a_map, b_map].map(|map| gpu.upload(&map.0));
    let pointers = [0, 1].map(|i| gpu.address(&copies[i]));
    let (rows, columns, depth, out_address, cycles_address) =
        (m as i32, n as i32, k as i32, gpu.address(&out), gpu.address(&cycles));
    let mut parameters: Vec<&dyn Parameter> = vec![&rows, &columns, &depth];
    let out_map;
    // Tiles of each pair of blocks, ended by −1: one for each of the first four.
    let mut tiles = vec![-1i32; 128 * 128];
    (tiles[0], tiles[128], tiles[256], tiles[384]) = (0, 1, 1 << 16, 1 << 16 | 1);
    let tiles = gpu.upload(&tiles);
    let tiles_address = gpu.address(&tiles);
    match number {
        2..=9 => {
            parameters.push(&out_address);
            match kernel.maps {
                Maps::Copied => parameters.extend([&pointers[0] as &dyn Parameter, &pointers[1]]),
                _ => parameters.extend([&a_map as &dyn Parameter, &b_map]),
            }
            if number == 3 {
                parameters.push(&cycles_address);
            }
        }
        _ => {
            let (inner, lines) = if number == 12 { (72, 64) } else { (64, 128) };
            out_map = if number == 12 {
                map(kernel, out_address, n, m, kernel.columns, Swizzle::None, inner)
            } else {
                let (sizes, strides) = ([64, n as u64, m as u64 / 64], [2 * m as u64, 128]);
                let tile = [inner, kernel.columns, lines / 64];
                Tiled { kind: Kind::Bf16, sizes: &sizes, strides: &strides, tile: &tile, swizzle: Swizzle::None }
                    .encode(out_address)
            };
            parameters.extend([&out_map as &dyn Parameter, &a_map, &b_map]);
            if number > 10 {
                parameters.push(&tiles_address);
            }
        }
    }
    let shared = [0, 32_768, 231_424][number.min(4) - 2];
    let function = gpu.kernel(&module, &entry(&module, &format!("matmulKernel{number}")), shared);
    let shape = Shape { grid: [kernel.grid, 1, 1], threads: kernel.threads, shared, ..Shape::default() };
    gpu.launch(&function, shape, &parameters)?;
    let counts = gpu.finish()?;
    let got = gpu.stream.clone_dtoh(&out).expect("a copy");
    for column in 0..n {
        for row in 0..m {
            let expected = half::bf16::from_f32(product.sum(row, column, 0, k) as f32);
            let bits = got[column * m + row];
            assert_eq!(bits, expected.to_bits(), "row {row}, column {column}: {expected} expected");
        }
    }
    Ok(counts)
}

fn clean(shop: &Workshop, kernel: &Kernel) {
    launch(shop, kernel).unwrap_or_else(|refused| panic!("error {}: {}", refused.code, refused.report));
}

/// Reported as it is, for one of the things that `mended` puts right, and right when mended.
fn reported_unless_mended(shop: &Workshop, mended: &Kernel, checks: &[Check]) {
    let report = launch(shop, &Kernel { mended: &[], waits: false, ..*mended }).expect_err("a fault").report;
    assert!(checks.iter().any(|check| report.starts_with(&format!("{check:?} in "))), "{report}");
    clean(shop, mended);
}

/// What comes behind their kernels with clusters, and before it: no block ends while its peer may still arrive at its barriers,
/// and none while a bulk store still reads.
const LAST: &str = r#"
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    asm volatile("barrier.cluster.arrive;" ::: "memory");
    asm volatile("barrier.cluster.wait;" ::: "memory");
"#;

/// Right as it is, or reported for one thing, by the schedule; right when mended.
fn reported_at_most(shop: &Workshop, mended: &Kernel, check: Check) {
    if let Err(refused) = launch(shop, &Kernel { mended: &[], waits: false, ..*mended }) {
        assert!(refused.report.starts_with(&format!("{check:?} in ")), "{}", refused.report);
    }
    clean(shop, mended);
}

const FIRST: Kernel = Kernel {
    number: 2,
    rows: 64,
    columns: 64,
    size: (128, 128, 192),
    grid: 4,
    threads: 128,
    maps: Maps::Copied,
    mended: &[],
    waits: false,
};

/// A warpgroup that loads and multiplies in turn; cuda::barrier.
pub fn matmul_2(shop: &Workshop) {
    clean(shop, &FIRST);
}

/// A larger tile, two products a warpgroup.
pub fn matmul_3(shop: &Workshop) {
    clean(shop, &Kernel { number: 3, rows: 128, columns: 128, size: (256, 128, 192), grid: 2, ..FIRST });
}

/// A producer beside a consumer.
pub fn matmul_4(shop: &Workshop) {
    let size = (256, 128, 512);
    clean(shop, &Kernel { number: 4, rows: 128, columns: 128, size, grid: 2, threads: 256, ..FIRST });
}

const TWO_CONSUMERS: Kernel =
    Kernel { number: 5, rows: 128, columns: 256, size: (256, 256, 320), grid: 2, threads: 384, ..FIRST };

/// Two consumers, setmaxnreg.
pub fn matmul_5(shop: &Workshop) {
    clean(shop, &TWO_CONSUMERS);
}

/// Blocks that stay and take tiles in order: the smallest matrix its schedule takes.
const PERSISTENT: Kernel = Kernel { number: 6, size: (2048, 2048, 128), grid: 128, maps: Maps::Plain, ..TWO_CONSUMERS };

pub fn matmul_6(shop: &Workshop) {
    clean(shop, &PERSISTENT);
}

/// Its own barriers in the place of cuda::barrier's, maps of five dimensions.
pub fn matmul_7(shop: &Workshop) {
    clean(shop, &Kernel { number: 7, maps: Maps::Panels { rank: 5 }, ..PERSISTENT });
}

const CLUSTERS: Kernel = Kernel { number: 8, maps: Maps::Panels { rank: 3 }, waits: true, ..PERSISTENT };

/// Clusters of two, multicast.
pub fn matmul_8(shop: &Workshop) {
    reported_at_most(shop, &CLUSTERS, Check::Cluster);
}

/// Stores that write through.
pub fn matmul_9(shop: &Workshop) {
    reported_at_most(shop, &Kernel { number: 9, ..CLUSTERS }, Check::Cluster);
}

/// Results by bulk stores.
pub fn matmul_10(shop: &Workshop) {
    const FENCED: (&str, &str) = (
        r#"asm volatile("bar.sync 10, 256;\n");"#,
        r#"asm volatile("fence.proxy.async.shared::cta; bar.sync 10, 256;");"#,
    );
    reported_unless_mended(
        shop,
        &Kernel { number: 10, mended: &[FENCED], ..CLUSTERS },
        &[Check::ProxyFence, Check::Cluster],
    );
}

/// Tiles along Hilbert's curve, from a table.
pub fn matmul_11(shop: &Workshop) {
    const FENCED: (&str, &str) = (
        r#"asm volatile("bar.sync 1, 256;\n");"#,
        r#"asm volatile("fence.proxy.async.shared::cta; bar.sync 1, 256;");"#,
    );
    let kernel = Kernel { number: 11, size: (512, 512, 256), mended: &[FENCED], ..CLUSTERS };
    reported_unless_mended(shop, &kernel, &[Check::ProxyFence, Check::Cluster]);
}

/// Results by stmatrix.
pub fn matmul_12(shop: &Workshop) {
    const FENCED: (&str, &str) = (
        r#"asm volatile("bar.sync %0, 128;\n" ::"r"(wg_idx + 2) : "memory");"#,
        r#"asm volatile("fence.proxy.async.shared::cta; bar.sync %0, 128;" ::"r"(wg_idx + 2) : "memory");"#,
    );
    let kernel = Kernel { number: 12, size: (512, 512, 256), mended: &[FENCED], ..CLUSTERS };
    reported_unless_mended(shop, &kernel, &[Check::ProxyFence, Check::Cluster]);
}
