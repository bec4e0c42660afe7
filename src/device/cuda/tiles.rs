//! Which tile a product gets, in how many parts its depth is cut, and whether warpgroups compute it: by a small model of time, from
//! the problem and the GPU's limits alone. The tiles themselves are the kernels' own (kernels/gemm_mainloop.cuh,
//! kernels/sm90/product.cuh).

use super::ACTIVATION_BYTES;
use super::arch::{Arch, RESERVED_SHARED};
use super::compile::Assembler;
use super::driver::Info;
use super::modules::{Kernel, KernelId, kernels, variant};
use super::{wgmma, wgmma_conv};
use crate::ops::Element;

/// Rows and columns of the output that a block makes, and in which steps of the depth, as its kernel declares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    pub rows: usize,
    pub columns: usize,
    /// Depth of one stage.
    step: usize,
    /// Threads of a block, and bytes of its shared memory.
    threads: usize,
    shared: usize,
    /// Bytes of a value of the rows.
    value: usize,
    /// Of warpgroups' kernels.
    cluster: Option<Cluster>,
}

/// What the blocks of a cluster share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Blocks, one below the other, that have the same columns.
    pub sharers: usize,
    /// Parts of the depth that they sum up together.
    pub parts: usize,
    /// Columns that a block stores.
    own: usize,
    /// Rows of a warpgroup.
    group: usize,
    /// Whether something may be added to the results.
    adds: bool,
}

/// Which kernels multiply: by mma.sync (kernels/gemm.cu, conv.cu) or by wgmma (kernels/sm90/gemm.cu, conv.cu).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Warps,
    Warpgroups,
}

/// A tile, and the parts of the depth that different blocks sum up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub tile: Tile,
    pub parts: usize,
}

/// A product: `items` times [rows, depth] · [columns, depth].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    pub items: usize,
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
}

/// The kernels of warpgroups that an operation may have beside those of warps.
#[derive(Clone, Copy)]
pub struct Second<'a> {
    /// Their file.
    pub module: &'static str,
    /// The problem as a tile of theirs computes it, which may have more rows than it needs; none that it does not take.
    pub problem: &'a dyn Fn(Tile) -> Option<Problem>,
}

/// A problem and how it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    pub problem: Problem,
    pub config: Config,
}

/// What of a GPU matters here.
#[derive(Clone, Copy, Debug)]
pub struct GpuLimits {
    pub multiprocessors: usize,
    /// Bytes of shared memory of a multiprocessor.
    pub shared: usize,
    pub arch: &'static Arch,
    /// Whether kernels/sm90 runs there.
    pub warpgroups: bool,
    /// A pass's kernels may begin before the one before has ended.
    pub overlaps: bool,
}

/// In words: which kernels products run on.
const ON_WARPGROUPS: &str = "products: warpgroups (wgmma) of sm_90a";
const ON_WARPS: &str = "products: warps (mma.sync)";
/// In words: a pass's kernels may begin before the one before has ended; they may not.
pub const OVERLAP: &str = "launches overlap: programmatic edges";
const NO_OVERLAP: &str = "launches do not overlap: the GPU is older than compute capability 9.0";
/// Threads that a multiprocessor's registers hold: two blocks of four warps, or one of eight.
const RESIDENT_THREADS: usize = 256;
/// A block of four warps: one for each tensor core of a multiprocessor.
const FOUR_WARPS: usize = 128;
const RESERVED: usize = RESERVED_SHARED as usize;
/// Clocks of each stage in which a block that is alone, a warp for each tensor core, waits: nobody else fills them.
const WAITS: f64 = 128.0;
/// The same of eight warps that wait for each other, where two blocks of four would not.
const EIGHT_WARP_WAITS: f64 = 32.0;
/// Clocks until a block's first tiles have come, and until its last results have left.
const ENDS: f64 = 1500.0;
/// Bytes a clock that a multiprocessor writes or reads of parts.
const BYTES: f64 = 32.0;
/// Clocks of a warpgroups' kernel for each value that a block stores.
const STORED_VALUE: f64 = 0.08;
/// Clocks in which a cluster's blocks wait for each other, twice, where parts are joined.
const JOIN: f64 = 1000.0;
/// Bytes a clock from shared memory, or to that of another block.
const SHARED_BYTES: f64 = 128.0;
const CLUSTER_BYTES: f64 = 32.0;
/// The share of a GPU's multiprocessors that clusters of so many blocks reach: 66 of 2, 42 of 3, 30 of 4 on an H100's 132, whose
/// groups they do not fill. As if four had 18, two 16 and two 14: 22 of 5, 20 of 6, 16 of 7, 14 of 8.
const CLUSTERED: [f64; 9] =
    [1.0, 1.0, 1.0, 126.0 / 132.0, 120.0 / 132.0, 110.0 / 132.0, 120.0 / 132.0, 112.0 / 132.0, 112.0 / 132.0];
/// Parts must gain at least a tenth: their way through memory is in the way of others.
const SPLIT_GAIN: f64 = 1.1;

/// Parts are summed up through memory; more are never worth it.
pub const MOST_PARTS: usize = 8;

impl Kernel {
    /// A product's tile.
    pub fn tile(&self) -> Tile {
        let spec = &self.spec;
        let (threads, shared) = (self.threads as usize, spec.shared as usize);
        let (blocks, parts) = (spec.cluster as usize, spec.parts as usize);
        let (own, group, adds) = (spec.own, spec.group as usize, spec.variant & variant::ADDS != 0);
        let cluster = (parts > 0).then(|| Cluster { sharers: blocks / parts, parts, own, group, adds });
        let value = if spec.variant & variant::FLOAT_INPUT == 0 { ACTIVATION_BYTES } else { size_of::<f32>() };
        Tile { rows: spec.rows, columns: spec.columns, step: spec.step, threads, shared, value, cluster }
    }
}

/// Every tile of products and convolutions of f16, or of products of f32, in as many parts as it may have.
pub fn configs(element: Element) -> impl Iterator<Item = Config> {
    let takes = takes(element);
    let of_maps = candidates(wgmma_conv::MODULE, takes);
    let mut tiles: Vec<Tile> = Vec::new();
    for kernel in candidates("gemm", takes).chain(candidates(wgmma::MODULE, takes)).chain(of_maps) {
        if !tiles.contains(&kernel.tile()) {
            tiles.push(kernel.tile());
        }
    }
    tiles.into_iter().flat_map(Tile::configs)
}

/// The flag of kernels that take rows of this kind.
pub fn takes(element: Element) -> u32 {
    if element == Element::F32 { variant::FLOAT_INPUT } else { 0 }
}

/// The kernels of a file that take an input in this way.
fn candidates(module: &str, takes: u32) -> impl Iterator<Item = KernelId> + use<> {
    kernels(module).filter(move |kernel| kernel.spec.variant & !variant::ADDS == takes && kernel.spec.rows > 1)
}

impl Tile {
    fn area(self) -> usize {
        self.rows * self.columns
    }

    /// Blocks, one below the other, that have the same columns and load them together.
    pub fn sharers(self) -> usize {
        self.cluster.map_or(1, |cluster| cluster.sharers)
    }

    pub fn is_of_warpgroups(self) -> bool {
        self.cluster.is_some()
    }

    /// Whether something may be added to the results.
    pub fn adds(self) -> bool {
        self.cluster.is_none_or(|cluster| cluster.adds)
    }

    /// Of a block.
    pub fn warpgroups(self) -> usize {
        self.cluster.map_or(0, |cluster| self.rows / cluster.group)
    }

    /// Blocks that share columns, and parts, of a cluster; none of a block that is alone.
    pub fn cluster(self) -> Option<[usize; 2]> {
        self.cluster.map(|cluster| [cluster.sharers, cluster.parts]).filter(|sides| *sides != [1, 1])
    }

    fn configs(self) -> impl Iterator<Item = Config> {
        let parts = self.cluster.map_or(1..=MOST_PARTS, |cluster| cluster.parts..=cluster.parts);
        parts.map(move |parts| Config { tile: self, parts })
    }

    /// What of the tensor cores' rate shared memory lets it use, by the sums that a thread holds: a clock moves 128 bytes, in which
    /// an A100 multiplies 16×8×16 half. A warp's 64×64 takes four passes of 512 bytes for every 16 of these, its 32×64 six, and
    /// every value is written once.
    fn mma_efficiency(self) -> f64 {
        match self.area() / self.threads {
            128.. => 1.0,
            64.. => 0.95,
            _ => 0.75,
        }
    }

    /// Blocks that a multiprocessor's registers hold.
    fn most_resident(self) -> usize {
        (RESIDENT_THREADS / self.threads).max(1)
    }
}

impl Config {
    pub fn family(self) -> Family {
        if self.tile.is_of_warpgroups() { Family::Warpgroups } else { Family::Warps }
    }
}

impl Family {
    /// "warpgroups"
    pub fn name(self) -> &'static str {
        match self {
            Family::Warps => "warps",
            Family::Warpgroups => "warpgroups",
        }
    }

    pub fn other(self) -> Family {
        match self {
            Family::Warps => Family::Warpgroups,
            Family::Warpgroups => Family::Warps,
        }
    }
}

impl GpuLimits {
    pub fn of(gpu: &Info) -> GpuLimits {
        let limits = Self::with(gpu.capability, gpu.multiprocessors, gpu.shared_per_block + RESERVED);
        GpuLimits {
            overlaps: limits.overlaps && gpu.launches_overlap,
            warpgroups: limits.warpgroups && gpu.takes_warpgroups,
            ..limits
        }
    }

    /// Without the kernels of warpgroups: a driver that does not take them.
    pub fn without_warpgroups(self) -> GpuLimits {
        GpuLimits { warpgroups: false, ..self }
    }

    /// Of a GPU of this capability with so many multiprocessors, which need not be here.
    pub fn absent(capability: (u32, u32), multiprocessors: u32) -> GpuLimits {
        Self::with(capability, multiprocessors, Arch::like(capability).shared as usize)
    }

    fn with(capability: (u32, u32), multiprocessors: u32, shared: usize) -> GpuLimits {
        let (multiprocessors, arch) = (multiprocessors as usize, Arch::like(capability));
        GpuLimits { multiprocessors, shared, arch, warpgroups: arch.warpgroups, overlaps: arch.overlaps }
    }

    /// Whether a pass's kernels may begin before the one before has ended, in words.
    pub fn overlap(self) -> &'static str {
        if self.overlaps { OVERLAP } else { NO_OVERLAP }
    }

    /// Which kernels products run on, in words.
    pub fn products(self) -> &'static str {
        if self.warpgroups { ON_WARPGROUPS } else { ON_WARPS }
    }

    /// Blocks that one multiprocessor holds.
    fn resident(&self, tile: Tile) -> usize {
        (self.shared / (tile.shared + RESERVED)).clamp(1, tile.most_resident())
    }

    /// The same by their threads: two blocks of two warpgroups, one of more.
    fn resident_threads(&self, tile: Tile) -> usize {
        (self.shared / (tile.shared + RESERVED)).min(2 * RESIDENT_THREADS / tile.threads).max(1)
    }

    /// Bytes for the sums of parts: what as many blocks as every multiprocessor's registers hold write.
    pub fn workspace_bytes(&self) -> usize {
        let tiles = candidates("gemm", 0).map(|kernel| kernel.tile());
        let sums = tiles.map(|tile| tile.most_resident() * tile.area()).max().unwrap_or(0);
        self.multiprocessors * sums * size_of::<f32>()
    }

    /// Tiles of a product that is cut in parts, at most: more fill the GPU as they are.
    pub fn most_split_tiles(&self) -> usize {
        self.multiprocessors * (RESIDENT_THREADS / FOUR_WARPS)
    }
}

impl Problem {
    /// Tiles of the output.
    pub fn tiles(&self, tile: Tile) -> usize {
        self.items * self.rows.div_ceil(tile.rows) * self.columns.div_ceil(tile.columns)
    }
}

/// The kernel of kernels/`module`.cu, or of `second`'s, that takes its input in this way, and how it is used: what is forced, where the
/// problem allows it and there is a choice, else the quickest by the model.
///
/// # Errors
/// There is no such kernel.
pub fn choose(
    to: &Assembler<'_>,
    module: &str,
    takes: u32,
    problem: Problem,
    second: Option<Second<'_>>,
) -> Result<(KernelId, Tiling), String> {
    let (gpu, forced) = (to.limits(), to.forced());
    let warps = candidates(module, takes).map(|kernel| (kernel, problem));
    let of_second = |second: Second<'_>| {
        let own = candidates(second.module, takes);
        own.filter_map(|kernel| Some((kernel, (second.problem)(kernel.tile())?))).collect::<Vec<_>>()
    };
    let warpgroups = second.filter(|_| gpu.warpgroups).map(of_second).unwrap_or_default();
    let tilings = |(kernel, problem): (KernelId, Problem)| {
        kernel.tile().configs().map(move |config| (kernel, Tiling { problem, config }))
    };
    let is_allowed = |(_, Tiling { problem, config }): &(KernelId, Tiling)| allowed(*problem, *config, gpu);
    let all: Vec<(KernelId, Tiling)> = warps.chain(warpgroups).flat_map(tilings).filter(is_allowed).collect();
    let is_forced = |tiling: &Tiling| forced.config == Some(tiling.config);
    let of_family = |tiling: &Tiling| forced.family == Some(tiling.config.family());
    let of = |meant: &dyn Fn(&Tiling) -> bool| {
        let meant = all.iter().filter(|(_, tiling)| meant(tiling));
        meant.min_by(|(_, a), (_, b)| a.clocks(gpu).total_cmp(&b.clocks(gpu))).copied()
    };
    let found = of(&is_forced).or_else(|| of(&of_family)).or_else(|| of(&|_| true));
    found.ok_or_else(|| format!("no kernel of {module}.cu takes it"))
}

/// The kernel of kernels/`module`.cu that is the quickest by the model, or whose tile is forced, of those that do not cut the depth.
///
/// # Errors
/// There is none.
pub fn choose_whole(to: &Assembler<'_>, module: &str, problem: Problem) -> Result<(KernelId, Tiling), String> {
    let configs = || candidates(module, 0).map(|kernel| Config { tile: kernel.tile(), parts: 1 });
    let forced = to.forced().config.filter(|config| configs().any(|other| other == *config));
    let config = forced.or_else(|| quickest(configs(), problem, to.limits()));
    let kernel = config.and_then(|config| candidates(module, 0).find(|kernel| kernel.tile() == config.tile));
    match (config, kernel) {
        (Some(config), Some(kernel)) => Ok((kernel, Tiling { problem, config })),
        _ => Err(format!("no kernel of {module}.cu takes it")),
    }
}

/// The quickest of some by the model; none of none.
fn quickest(configs: impl Iterator<Item = Config>, problem: Problem, gpu: GpuLimits) -> Option<Config> {
    configs.min_by(|a, b| clocks(problem, *a, gpu).total_cmp(&clocks(problem, *b, gpu)))
}

fn allowed(problem: Problem, Config { tile, parts }: Config, gpu: GpuLimits) -> bool {
    let (tiles, steps) = (problem.tiles(tile), problem.depth.div_ceil(tile.step));
    if tile.is_of_warpgroups() {
        return steps >= parts;
    }
    let fits = tiles <= gpu.most_split_tiles() && tiles * parts * tile.area() * 4 <= gpu.workspace_bytes();
    parts == 1 || (fits && steps >= 4 * parts)
}

impl Tiling {
    /// Bytes of what the blocks write that share tiles.
    pub fn partial_sums(&self) -> usize {
        let Config { tile, parts } = self.config;
        self.problem.tiles(tile) * parts * tile.area() * size_of::<f32>()
    }

    /// Clocks until the last block has ended, by the model.
    pub fn clocks(&self, gpu: GpuLimits) -> f64 {
        clocks(self.problem, self.config, gpu)
    }
}

fn clocks(problem: Problem, config: Config, gpu: GpuLimits) -> f64 {
    match config.tile.cluster {
        Some(cluster) => clocks_of_warpgroups(problem, config.tile, cluster, gpu),
        None => clocks_of_warps(problem, config, gpu),
    }
}

/// Of the kernels of sm90/: one block at a time on a multiprocessor, or two small ones.
fn clocks_of_warpgroups(problem: Problem, tile: Tile, cluster: Cluster, gpu: GpuLimits) -> f64 {
    let Cluster { sharers, parts, own, group, .. } = cluster;
    let (rows, columns) = (tile.rows as f64, tile.columns as f64);
    let row_tiles = problem.rows.div_ceil(tile.rows).next_multiple_of(sharers);
    let blocks = problem.items * row_tiles * problem.columns.div_ceil(tile.columns) * parts;
    let depth = (problem.depth.div_ceil(tile.step).div_ceil(parts) * tile.step) as f64;
    // A warpgroup's product reads its rows and all columns from shared memory, where both are written first.
    let groups = rows / group as f64;
    let value = tile.value as f64;
    let multiplied = rows * columns * depth / gpu.arch.multiply_adds();
    let shared = 2.0 * depth * (value * rows + (groups + 1.0) * columns) / SHARED_BYTES;
    let resident = gpu.resident_threads(tile) as f64;
    let clustered = CLUSTERED[(sharers * parts).min(CLUSTERED.len() - 1)];
    let multiprocessors = (gpu.multiprocessors as f64 * clustered).floor();
    let rounds = (blocks as f64 / multiprocessors).ceil();
    let loaded = depth * (value * rows + 2.0 * columns / sharers as f64) * blocks as f64;
    let sums = (multiplied.max(shared) * rounds).max(loaded / (gpu.arch.bulk_l2_bytes * gpu.multiprocessors as f64));
    let own = rows * own as f64;
    let joined = if parts > 1 { JOIN + (parts - 1) as f64 * own * 8.0 / CLUSTER_BYTES } else { 0.0 };
    sums + (ENDS + joined + STORED_VALUE * own) * (rounds / resident).ceil()
}

fn clocks_of_warps(problem: Problem, Config { tile, parts }: Config, gpu: GpuLimits) -> f64 {
    let area = tile.area() as f64;
    let stages = problem.depth.div_ceil(tile.step).div_ceil(parts);
    // Blocks that the busiest multiprocessor does: as many as it can at a time, then what is left.
    let blocks = (problem.tiles(tile) * parts).div_ceil(gpu.multiprocessors);
    let resident = gpu.resident(tile);
    let alone = if resident == 1 { blocks } else { blocks % resident };
    let sum = area * (stages * tile.step) as f64 / (gpu.arch.mma_sync_multiply_adds() * tile.mma_efficiency());
    let waits = if tile.threads > FOUR_WARPS { EIGHT_WARP_WAITS } else { WAITS };
    let sums = blocks as f64 * sum + (alone * stages) as f64 * waits;
    let operands = problem.tiles(tile) * (tile.value * tile.rows + 2 * tile.columns) * problem.depth;
    let sums = sums.max(operands as f64 / (gpu.arch.l2_bytes * gpu.multiprocessors as f64));
    let ends = ENDS * blocks.div_ceil(resident) as f64;
    if parts == 1 {
        return sums + ends;
    }
    // The last parts are written, then one block reads all of its tile.
    let reduction = ENDS + (blocks.min(resident) + parts) as f64 * area * 4.0 / BYTES;
    SPLIT_GAIN * (sums + ends + reduction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus() -> [GpuLimits; 4] {
        [((8, 7), 16), ((8, 0), 108), ((8, 9), 128), ((9, 0), 132)]
            .map(|(capability, count)| GpuLimits::absent(capability, count).without_warpgroups())
    }

    /// The products of vitl16 at 480×480: rows, depth, columns.
    const REAL: [(usize, usize, usize); 10] = [
        (900, 768, 1024),
        (901, 1024, 3072),
        (901, 1024, 1024),
        (901, 1024, 4096),
        (901, 4096, 1024),
        (900, 1024, 256),
        (900, 1024, 512),
        (900, 256, 4096),
        (14_400, 256, 256),
        (57_600, 256, 512),
    ];

    fn shape((rows, depth, columns): (usize, usize, usize)) -> Problem {
        Problem { items: 1, rows, columns, depth }
    }

    /// 128×128, 128×64 and 64×64; none in a build without kernels.
    fn usual() -> Option<[Tile; 3]> {
        let tiles = || candidates("gemm", 0).map(|kernel| kernel.tile());
        let of =
            |(rows, columns)| tiles().find(|tile| (tile.rows, tile.columns) == (rows, columns)).expect("a usual tile");
        if tiles().next().is_none() {
            eprintln!("skipped: no kernels were built");
            return None;
        }
        Some([(128, 128), (128, 64), (64, 64)].map(of))
    }

    /// Of warps, or of all where the GPU has them.
    fn choose(problem: Problem, gpu: GpuLimits) -> Config {
        let may = |config: &Config| gpu.warpgroups || !config.tile.is_of_warpgroups();
        quickest(configs(Element::Activation).filter(may).filter(|config| allowed(problem, *config, gpu)), problem, gpu)
            .expect("there are tiles")
    }

    #[test]
    fn products_of_many_columns_get_large_tiles_uncut() {
        let Some([.., t64x64]) = usual() else { return };
        for gpu in gpus() {
            for real in [(901, 1024, 3072), (901, 1024, 4096), (57_600, 256, 512)] {
                let Config { tile, parts } = choose(shape(real), gpu);
                assert!(tile != t64x64 && parts == 1, "{real:?} on {gpu:?}: {tile:?}, {parts} parts");
            }
        }
    }

    #[test]
    fn tiles_are_as_large_as_reaches_every_multiprocessor() {
        let Some([t128x128, t128x64, t64x64]) = usual() else { return };
        let [orin, a100, rtx4090, h100] = gpus();
        // 64 tiles of 128×128, 128 of 128×64, 240 of 64×64.
        let tokens = shape((901, 1024, 1024));
        assert_eq!(choose(tokens, orin), Config { tile: t128x128, parts: 1 });
        for gpu in [rtx4090, h100] {
            assert_eq!(choose(tokens, gpu), Config { tile: t128x64, parts: 1 }, "{gpu:?}");
        }
        for gpu in [a100, rtx4090, h100] {
            assert_eq!(choose(shape((900, 1024, 256)), gpu).tile, t64x64, "{gpu:?}");
        }
    }

    #[test]
    fn deep_products_that_leave_multiprocessors_idle_are_cut() {
        if usual().is_none() {
            return;
        }
        let [orin, a100, ..] = gpus();
        // Two rounds of 128×64 tiles on 108 multiprocessors would do 59 % of what they could.
        assert!(choose(shape((901, 4096, 1024)), a100).parts > 1);
        for gpu in gpus() {
            let Config { tile, parts } = choose(shape((5, 4096, 256)), gpu);
            assert!(parts > 1, "{gpu:?}: {tile:?}");
        }
        // Orin's sixteen are busy with tiles as they are.
        for real in REAL {
            assert_eq!(choose(shape(real), orin).parts, 1, "{real:?}");
        }
    }

    #[test]
    fn geforce_holds_two_large_blocks() {
        let Some([t128x128, t128x64, t64x64]) = usual() else { return };
        let [_, a100, rtx4090, _] = gpus();
        assert_eq!([t128x128, t128x64, t64x64].map(|tile| rtx4090.resident(tile)), [2, 1, 2]);
        assert_eq!([t128x128, t128x64, t64x64].map(|tile| a100.resident(tile)), [2, 2, 2]);
    }

    #[test]
    fn no_choice_leaves_its_bounds() {
        let Some([.., t64x64]) = usual() else { return };
        let odd = [(1, 1, 1), (1, 4096, 1), (20, 512, 2048), (4097, 1024, 1024), (901, 33, 17)];
        let tiny = GpuLimits { shared: 64 << 10, ..GpuLimits::absent((8, 0), 1) };
        for gpu in gpus().into_iter().chain([tiny]) {
            for (rows, depth, columns) in REAL.into_iter().chain(odd) {
                for items in [1, 3] {
                    let shape = Problem { items, ..shape((rows, depth, columns)) };
                    for config in [choose(shape, gpu), Config { tile: t64x64, parts: 1 }] {
                        let Config { tile, parts } = config;
                        let (tiles, steps) = (shape.tiles(tile), depth.div_ceil(tile.step));
                        assert!((1..=steps).contains(&parts), "every part has something to sum");
                        if parts > 1 {
                            assert!(tiles * parts * tile.area() * 4 <= gpu.workspace_bytes());
                            assert!(tiles <= gpu.most_split_tiles());
                        }
                    }
                }
            }
        }
    }
}
