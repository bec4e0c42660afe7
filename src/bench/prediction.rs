//! A model of a kernel's time from what the virtual GPU counts of it: a prediction, never a measurement.
//!
//! A multiprocessor needs for its blocks as long as its busiest unit: tensor cores, passes through shared memory, issue slots,
//! float32 lanes, special functions, bytes from the first-level cache or by bulk copies. No unit is used beyond `REACHED` of its rate; each wave of
//! blocks adds [`Board::fill_clocks`]. A kernel takes as long as the busiest multiprocessor, or as its bytes take from the L2 cache, or its
//! different bytes from memory, whichever is longest, and a launch on top. Blocks are whole: padded rows are paid for.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::device::cuda::arch::Arch;
use crate::device::cuda::{GpuLimits, Info, Launched, count, info, set_virtual_devices};
use crate::error::{Error, Result};

/// The share of a ceiling that is reached at best.
const REACHED: f64 = 0.85;
/// Instructions that ptxas makes of one of PTX, about.
const SASS: f64 = 1.2;
const SECTOR: f64 = 32.0;

/// A GPU as the model sees it: an entry of boards.json, which `cargo xtask import DIR --rates` replaces by what a run on such a GPU
/// measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Board {
    /// As `VGPU_DEVICE` has it.
    pub name: String,
    pub capability: (u32, u32),
    pub multiprocessors: u32,
    pub ghz: f64,
    /// Of mma.sync with float32 sums, a clock and multiprocessor: where it was measured, and so is better known than the
    /// architecture's.
    pub tensor_flop: Option<f64>,
    pub l2_gb_per_s: f64,
    pub memory_gb_per_s: f64,
    /// From one kernel of a graph to the next.
    pub launch_us: f64,
    /// The same where the second one may begin before the first has ended.
    pub overlapped_launch_us: f64,
    /// Until a block's first data has come and its last has gone.
    pub fill_clocks: f64,
    /// Where these numbers come from.
    pub source: String,
}

/// What of the environment says as which boards the virtual GPU plays.
const VARIABLES: [&str; 2] = ["VGPU_DEVICES", "VGPU_DEVICE"];

/// The boards that are predicted for.
pub fn boards() -> &'static [Board] {
    static BOARDS: LazyLock<Vec<Board>> =
        LazyLock::new(|| serde_json::from_str(include_str!("boards.json")).expect("boards.json is a list of boards"));
    &BOARDS
}

/// Has the virtual GPU, where it is this machine's driver, play all [`boards`] as devices of this process, unless its variables say
/// what it plays. It comes before all else that is done with CUDA.
///
/// # Errors
/// The driver is started already.
pub fn emulate_boards() -> Result<()> {
    if VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    let names: Vec<&str> = boards().iter().map(|board| board.name.as_str()).collect();
    set_virtual_devices(&names.join(",")).map(drop)
}

/// The boards that the virtual GPU's devices are, each with the number of one.
///
/// # Errors
/// No device is one of them; whatever the driver finds wrong.
pub fn emulated_boards() -> Result<Vec<(&'static Board, usize)>> {
    let infos = (0..count()?).map(info).collect::<Result<Vec<_>>>()?;
    let device_of = |board: &'static Board| Some((board, infos.iter().find(|info| board.is(info))?.ordinal));
    let emulated: Vec<_> = boards().iter().filter_map(device_of).collect();
    if emulated.is_empty() {
        let known: Vec<&str> = boards().iter().map(|board| board.name.as_str()).collect();
        let (variables, known) = (VARIABLES.join(" or "), known.join(", "));
        return Err(Error::Device(format!(
            "predictions are for {known}, and the virtual GPU plays none of them: choose of these with {variables}, or set neither"
        )));
    }
    Ok(emulated)
}

/// What the predictions rest on, for whoever reads them.
pub fn assumptions() -> String {
    let rates = boards().iter().map(|board| {
        let Board { name, ghz, l2_gb_per_s, memory_gb_per_s, launch_us, fill_clocks, source, .. } = board;
        let overlapped = match board.overlapped_launch_us {
            us if us == *launch_us => String::new(),
            us => format!(" or {us} where it overlaps the one before"),
        };
        format!(
            "{name}: {ghz:.2} GHz, mma.sync {} FLOP a clock and multiprocessor, L2 {:.1} and memory {:.2} TB/s, \
             {launch_us} µs a launch{overlapped}, {fill_clocks} clocks to fill and drain each wave of blocks ({source})",
            board.tensor_flop(),
            l2_gb_per_s / 1e3,
            memory_gb_per_s / 1e3
        )
    });
    format!(
        "model prediction, not measured. Assumed: every kernel one node of a graph; no unit beyond {:.0} % of its rate; whole tiles \
         paid for; {SASS} machine instructions for one of PTX; every kernel's different bytes come from memory, nothing stays cached \
         from the kernel before; no copies of photo and mask. {}",
        100.0 * REACHED,
        rates.collect::<Vec<_>>().join("; ")
    )
}

impl Board {
    pub fn named(name: &str) -> Option<&'static Board> {
        boards().iter().find(|board| board.name == name)
    }

    /// Whether a device is such a board.
    fn is(&self, info: &Info) -> bool {
        (self.capability, self.multiprocessors) == (info.capability, info.multiprocessors)
    }

    /// What plans for it are compiled by.
    pub fn limits(&self) -> GpuLimits {
        GpuLimits::absent(self.capability, self.multiprocessors)
    }

    fn arch(&self) -> &'static Arch {
        Arch::like(self.capability)
    }

    fn tensor_flop(&self) -> f64 {
        self.tensor_flop.unwrap_or_else(|| self.arch().mma_sync_flop())
    }

    /// Blocks of a kernel that one multiprocessor holds.
    fn resident(&self, launch: &Launched) -> u64 {
        u64::from(self.arch().resident(launch.threads, launch.registers, launch.shared))
    }

    /// Microseconds.
    pub fn predict(&self, launch: &Launched) -> f64 {
        let (counts, blocks) = (&launch.counts, launch.blocks().max(1));
        let instructions = &counts.instructions;
        let per_lane = |warps: u64, lanes: f64| 32.0 * warps as f64 / lanes;
        let sectors = counts.global_load_sectors + counts.global_store_sectors;
        let bulk = counts.bulk_load_bytes + counts.bulk_store_bytes;
        // A column of a warpgroup's product is 2·64·16 operations in 16 bits, and takes as long in 8 or 32.
        let wgmma = (2 * 64 * 16 * counts.wgmma_columns) as f64 / f64::from(self.arch().tensor_flop);
        // Bytes through shared memory beside the passes of loads and stores.
        let beside = counts.wgmma_shared_bytes + counts.bulk_shared_bytes + counts.bulk_store_bytes;
        // Clocks of one multiprocessor for all blocks.
        let busiest = [
            (counts.mma_flop - counts.wgmma_flop) as f64 / self.tensor_flop() + wgmma,
            counts.shared_wavefronts as f64 + beside as f64 / 128.0,
            (counts.bulk_shared_bytes + counts.bulk_store_bytes) as f64 / 64.0,
            SASS * counts.issued as f64 / 4.0,
            per_lane(instructions.float + instructions.half, 128.0),
            per_lane(instructions.special, 16.0),
            SECTOR * sectors as f64 / 64.0,
        ];
        let all = busiest.into_iter().fold(0.0, f64::max) / REACHED;
        let (multiprocessors, resident) = (u64::from(self.multiprocessors), self.resident(launch));
        let of_busiest = blocks.div_ceil(multiprocessors) as f64 / blocks as f64;
        let waves = blocks.div_ceil(multiprocessors * resident) as f64;
        let clocks = all * of_busiest + self.fill_clocks * waves;
        let unique = counts.unique_load_sectors + counts.unique_store_sectors;
        let us = |bytes: f64, gb_per_s: f64| bytes / (gb_per_s * REACHED * 1e3);
        let (l2, memory) = (SECTOR * sectors as f64 + bulk as f64, SECTOR * unique as f64);
        let kernel = (clocks / (self.ghz * 1e3)).max(us(l2, self.l2_gb_per_s)).max(us(memory, self.memory_gb_per_s));
        kernel + if launch.overlaps { self.overlapped_launch_us } else { self.launch_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::{Counts, Cuda, Image};

    fn launch(blocks: u32, counts: Counts) -> Launched {
        let (image, config) = (Image::Ptx, None);
        Launched {
            kernel: "k",
            image,
            config,
            family: None,
            grid: [blocks, 1, 1],
            threads: 128,
            shared: 48 << 10,
            registers: 128,
            overlaps: false,
            counts,
        }
    }

    #[test]
    fn every_board_has_a_row_for_its_architecture() {
        for board in boards() {
            assert!(Arch::of(board.capability).is_some(), "{}", board.name);
        }
    }

    #[test]
    fn a_board_is_what_its_driver_says() {
        let Ok(cuda) = Cuda::new(0) else {
            eprintln!("skipped: there is no GPU");
            return;
        };
        let info = cuda.info();
        for board in boards().iter().filter(|board| board.is(info)) {
            assert_eq!(board.limits().shared, GpuLimits::of(info).shared, "{}", board.name);
        }
    }

    #[test]
    fn an_empty_kernel_takes_a_launch_and_a_wave() {
        let board = Board::named("rtx4090").unwrap();
        let us = board.predict(&launch(1, Counts::default()));
        assert!((us - (1.3 + 1000.0 / 2520.0)).abs() < 1e-9, "{us}");
    }

    #[test]
    fn an_overlapping_launch_takes_what_is_left_of_it() {
        for board in boards() {
            let plain = launch(1, Counts::default());
            let gain = board.predict(&plain) - board.predict(&Launched { overlaps: true, ..plain });
            assert!((gain - (board.launch_us - board.overlapped_launch_us)).abs() < 1e-9, "{}", board.name);
            assert_eq!(gain > 0.0, board.limits().overlaps, "{}", board.name);
        }
    }

    #[test]
    fn a_full_gpu_reaches_its_share_of_the_ceiling() {
        let board = Board::named("rtx4090").unwrap();
        // 165 TFLOP in 128 even blocks.
        let flop = 512.0 * 128.0 * 2.52e9;
        let us = board.predict(&launch(128, Counts { mma_flop: flop as u64, ..Counts::default() }));
        assert!((us / (1e6 / REACHED) - 1.0).abs() < 1e-3, "{us}");
        // One block more is a second round of the busiest multiprocessor.
        let more = board.predict(&launch(129, Counts { mma_flop: flop as u64, ..Counts::default() }));
        assert!((more / us - 2.0 * 128.0 / 129.0).abs() < 1e-2, "{more} after {us}");
    }

    #[test]
    fn bytes_cost_what_the_memory_gives() {
        let board = Board::named("orin").unwrap();
        let counts = Counts { unique_load_sectors: 6_400_000, ..Counts::default() };
        // 204.8 MB from 204.8 GB/s.
        let us = board.predict(&launch(16, counts));
        assert!((us - (1000.0 / REACHED + 2.5)).abs() < 1.0, "{us}");
    }

    #[test]
    fn warpgroups_products_and_bulk_copies_have_rates_of_their_own() {
        let board = Board::named("h100").unwrap();
        let us = |counts: Counts| board.predict(&launch(132, counts)) - board.predict(&launch(132, Counts::default()));
        // A millisecond's worth at full rate: 4096 operations a clock of each multiprocessor.
        let flop = (4096.0 * 132.0 * board.ghz * 1e6) as u64;
        let wgmma = Counts { mma_flop: flop, wgmma_flop: flop, wgmma_columns: flop / 2048, ..Counts::default() };
        assert!((us(wgmma) / (1e3 / REACHED) - 1.0).abs() < 1e-3, "{}", us(wgmma));
        // What goes to two blocks of a cluster comes once from the L2 cache, and to each multiprocessor.
        let bytes = (board.l2_gb_per_s * 1e6) as u64;
        let once = us(Counts { bulk_load_bytes: bytes, bulk_shared_bytes: bytes, ..Counts::default() });
        let pairs = us(Counts { bulk_load_bytes: bytes / 2, bulk_shared_bytes: bytes, ..Counts::default() });
        assert!(pairs < once && once > 900.0, "{pairs} {once}");
    }

    #[test]
    fn shared_memory_and_registers_limit_the_blocks() {
        let board = Board::named("rtx4090").unwrap();
        assert_eq!(board.resident(&launch(1, Counts::default())), 2);
        let small = Launched { shared: 0, ..launch(1, Counts::default()) };
        assert_eq!(board.resident(&small), 4);
    }
}
