//! What the virtual GPU counts of a launch, in numbers.

use serde::{Deserialize, Serialize};

use super::driver::{Function, last_counts};
use super::images::IMAGES;

/// One launch.
#[derive(Clone, Debug, Serialize)]
pub struct Launch {
    pub kernel: &'static str,
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory of a block.
    pub shared: u32,
    /// Of a thread, as ptxas says.
    pub registers: u32,
    pub counts: Counts,
}

/// Sums over the launch's blocks; a request is a warp's, a sector 32 bytes of global memory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub instructions: Instructions,
    /// Warp instructions of PTX.
    pub issued: u64,
    /// Floating operations of tensor cores.
    pub mma_flop: u64,
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

/// Warp instructions of the classes that have units of their own.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Instructions {
    pub float: u64,
    pub half: u64,
    pub special: u64,
    pub convert: u64,
    pub mma: u64,
}

impl Launch {
    /// The last launch, which was of `function` on `grid`; `None` on a real GPU.
    pub(super) fn last(function: &Function, grid: [u32; 3]) -> Option<Launch> {
        #[derive(Deserialize)]
        struct Told {
            counts: Counts,
        }
        let told: Told = serde_json::from_str(&last_counts()?).ok()?;
        let spec = function.spec();
        let resources = IMAGES.iter().flat_map(|images| images.kernels).find(|kernel| kernel.name == spec.name)?;
        Some(Launch {
            kernel: spec.name,
            grid,
            threads: spec.threads,
            shared: resources.static_shared + spec.dynamic_shared,
            registers: resources.registers,
            counts: told.counts,
        })
    }

    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|n| u64::from(*n)).product()
    }
}
