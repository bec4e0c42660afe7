//! What a launch was and, on the virtual GPU, what it did, in numbers.

use serde::{Deserialize, Serialize};

use super::compile::Launch;
use super::driver::{Function, Image, last_counts};
use super::tiles::{Config, Family};

/// A launch that was made.
#[derive(Clone, Debug)]
pub struct Launched {
    pub kernel: &'static str,
    pub image: Image,
    /// Of a product or a convolution.
    pub config: Option<Config>,
    /// Of an operation that two families compute.
    pub family: Option<Family>,
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory of a block.
    pub shared: u32,
    /// Of a thread.
    pub registers: u32,
    /// It may begin before the launch before it has ended.
    pub overlaps: bool,
    /// Zeros where nothing was counted.
    pub counts: Counts,
}

/// The counts that the measurements use, under their names in the virtual GPU's public format (vgpu/docs/counts.md), which only
/// ever grows. Sums over the launch's blocks; a request is a warp's, a sector 32 bytes of global memory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub instructions: Instructions,
    /// Warp instructions of PTX.
    pub issued: u64,
    /// Floating operations of tensor cores.
    pub mma_flop: u64,
    /// Columns of warpgroup products (64 rows, 32 bytes of depth), and bytes of shared memory that these read.
    #[serde(default)]
    pub wgmma_columns: u64,
    #[serde(default)]
    pub wgmma_shared_bytes: u64,
    /// Floating operations that these are.
    #[serde(default)]
    pub wgmma_flop: u64,
    /// Bytes that bulk copies (TMA) loaded from and stored to global memory, one for all blocks of a cluster, and that they wrote
    /// to shared memory.
    #[serde(default)]
    pub bulk_load_bytes: u64,
    #[serde(default)]
    pub bulk_store_bytes: u64,
    #[serde(default)]
    pub bulk_shared_bytes: u64,
    /// Bytes that bulk prefetches brought to the L2 cache.
    #[serde(default)]
    pub bulk_prefetch_bytes: u64,
    /// Passes through shared memory, and those beyond the least that the accessed bytes need.
    pub shared_wavefronts: u64,
    pub shared_conflicts: u64,
    /// Sectors touched request by request, and the fewest that hold as many bytes.
    pub global_load_sectors: u64,
    pub global_load_least_sectors: u64,
    pub global_store_sectors: u64,
    pub global_store_least_sectors: u64,
    /// Different sectors touched by the whole launch.
    pub unique_load_sectors: u64,
    pub unique_store_sectors: u64,
    pub local_bytes: u64,
}

/// Of its `instructions`: those of the classes that have units of their own.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Instructions {
    pub float: u64,
    pub half: u64,
    pub special: u64,
    pub convert: u64,
    pub mma: u64,
}

impl Launched {
    /// By the function that its kernel is. Of PTX the virtual GPU knows no registers: ptxas' are taken, for the architecture that
    /// needs most.
    pub(super) fn of(launch: &Launch, function: &Function, is_virtual: bool, overlaps: bool) -> Launched {
        let kernel = &launch.kernel;
        let (registers, fixed) = match is_virtual {
            true => (kernel.registers, kernel.static_shared),
            false => (function.registers(), function.static_shared()),
        };
        Launched {
            kernel: kernel.name,
            image: function.image(),
            config: launch.config(),
            family: launch.family(),
            grid: launch.grid,
            threads: kernel.threads,
            shared: fixed + kernel.spec.shared,
            registers,
            overlaps,
            counts: Counts::default(),
        }
    }

    /// With what the virtual GPU counted of the last launch, which this is.
    pub(super) fn counted(self) -> Launched {
        #[derive(Deserialize)]
        struct Answer {
            counts: Counts,
        }
        let answer = last_counts().and_then(|answer| serde_json::from_str::<Answer>(&answer).ok());
        Launched { counts: answer.map_or(self.counts, |answer| answer.counts), ..self }
    }

    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|n| u64::from(*n)).product()
    }
}
