//! The kernels for compute capability 9.0 broken on purpose, as mutants.rs does it: at least one mistake for each rule of
//! asynchronous barriers, bulk copies, warpgroup products, clusters and overlapping launches.

use std::path::Path;

use super::compiled::Variant;
use super::gpu::Counts;
use super::hopper::TensorMap;
use super::hopper_kernels::{self, Chain, Done, PAIR, SIX_SCHEDULES, TILE, Tile, unspoilt};
use super::kernels::Wrong;
use super::mutants::{Mutant, expect_caught, expect_documented, mutant};
use super::reference::AttentionShape;

type Launches = Result<Vec<Counts>, Wrong>;

fn counts(done: Result<Done, Wrong>) -> Launches {
    done.map(|done| vec![done.counts])
}

fn launch(module: &Path, tile: Tile) -> Launches {
    // Ragged rows, columns and depth; each stage is used twice, the first one three times.
    counts(hopper_kernels::product(module, tile, (200, 136, 520), unspoilt))
}

fn product(module: &Path) -> Launches {
    launch(module, TILE)
}

fn pair(module: &Path) -> Launches {
    launch(module, PAIR)
}

fn reads(module: &Path) -> Launches {
    counts(hopper_kernels::chained_products(module, TILE, Chain::Reads))
}

fn overwrites(module: &Path) -> Launches {
    counts(hopper_kernels::chained_products(module, TILE, Chain::Overwrites))
}

fn changed_map(module: &Path) -> Launches {
    counts(hopper_kernels::product(module, TILE, (70, 72, 104), |maps: &mut [TensorMap; 3]| maps[0].0[3] ^= 1 << 20))
}

fn attention(module: &Path) -> Launches {
    counts(hopper_kernels::attention(module, AttentionShape { heads: 2, queries: 133, keys: 250 }))
}

const fn of_product(number: u32, dropped: &'static str, caught_by: &'static str) -> Mutant {
    mutant("hopper_product", number, dropped, product, caught_by)
}

const fn of_pair(number: u32, dropped: &'static str, caught_by: &'static str) -> Mutant {
    let variant = Variant { file: "hopper_product", number, options: PAIR.options };
    Mutant { variant, dropped, launches: pair, caught_by, harmless_early: false }
}

const fn of_attention(number: u32, dropped: &'static str, caught_by: &'static str) -> Mutant {
    mutant("hopper_attention", number, dropped, attention, caught_by)
}

const MUTANTS: &[Mutant] = &[
    of_product(1, "fence.proxy.async before the bulk store", "ProxyFence"),
    of_product(2, "the wait for an empty stage", "Mbarrier"),
    of_product(3, "wgmma.wait_group before a stage is given back", "AsyncInFlight"),
    of_product(4, "the wait for a full stage, in one warp", "AsyncInFlight"),
    of_product(5, "wgmma.wait_group before the sums are read", "WgmmaRegisters"),
    of_product(6, "wgmma.fence", "WgmmaRegisters"),
    of_product(7, "the descriptor's swizzle (64 bytes for 128)", "difference"),
    of_product(8, "the descriptor's stride (512 for 1024)", "Wgmma"),
    of_product(9, "the descriptor's start (a row further)", "difference"),
    of_product(10, "one descriptor for all four warps", "Wgmma"),
    of_product(11, "the parity of full stages (inverted)", "AsyncInFlight"),
    of_product(12, "the parity of empty stages (always 0)", "AsyncInFlight"),
    of_product(13, "expect_tx of b's bytes", "AsyncInFlight"),
    of_product(14, "expect_tx (16 bytes too many)", "Mbarrier"),
    of_product(15, "mbarrier.init of one barrier", "Mbarrier"),
    of_pair(16, "fence.mbarrier_init", "SharedRace"),
    of_product(17, "the count of arrivals (one too many)", "Mbarrier"),
    of_product(18, "the count of arrivals (one too few)", "Mbarrier"),
    of_pair(19, "the cluster's barrier before the peer's are used", "SharedRace"),
    of_pair(20, "the peer's bit of the multicast", "Mbarrier"),
    of_product(21, "wait_group.read before the staging is written again", "AsyncInFlight"),
    mutant("hopper_product", 22, "griddepcontrol.wait before a read", reads, "GridDependency"),
    mutant("hopper_product", 23, "griddepcontrol.wait before a write", overwrites, "GridDependency"),
    of_product(24, "room for setmaxnreg.inc", "MaxRegisters"),
    of_product(25, "setmaxnreg in two of the four warps", "MaxRegisters"),
    of_product(26, "a box's place at a multiple of 128", "Misaligned"),
    of_product(27, "the order of a box's coordinates", "difference"),
    of_product(28, "wait_group.read before the end", "AsyncPending"),
    of_product(29, "bounds of columns (bias)", "OutOfBounds"),
    of_product(30, "the group's barrier before the bulk store", "SharedRace"),
    Mutant { harmless_early: true, ..of_product(31, "repeating the wait for a full stage", "AsyncInFlight") },
    of_product(32, "the parity of full stages (always 0)", "AsyncInFlight"),
    of_pair(33, "giving a stage back to the peer", "SharedRace"),
    of_product(34, "expect_tx below 2^20", "Mbarrier"),
    of_product(35, "the swizzle of the staging", "difference"),
    of_product(36, "one of four warps in a product", "Wgmma"),
    of_product(37, "commit_group of the bulk store", "AsyncInFlight"),
    of_product(38, "the second group's rows (stores)", "GlobalRace"),
    of_product(39, "the group's barrier before the staging is written again", "SharedRace"),
    of_product(40, "a step along the depth of 32 bytes (16)", "difference"),
    of_product(41, "wgmma.commit_group", "AsyncInFlight"),
    of_product(42, "the parity of a phase that is long over", "Mbarrier"),
    Mutant { harmless_early: true, ..of_pair(43, "the cluster's barrier at the end", "Cluster") },
    mutant("hopper_product", 0, "the tensor map as it was encoded", changed_map, "BulkCopy"),
    of_attention(1, "mask of keys", "difference"),
    of_attention(2, "rescaling the sums", "difference"),
    of_attention(3, "a step of the maximum's shuffle", "difference"),
    of_attention(4, "the wait for the queries", "AsyncInFlight"),
    of_attention(5, "the wait for empty keys", "Mbarrier"),
    of_attention(6, "wgmma.wait_group before values are given back", "AsyncInFlight"),
    of_attention(7, "wgmma.wait_group 0 (1) before the scores are read", "WgmmaRegisters"),
    of_attention(8, "wgmma.fence after the weights are written", "WgmmaRegisters"),
    of_attention(9, "the values' transposition", "AsyncInFlight"),
    of_attention(10, "fence.proxy.async before the product of scaled queries", "ProxyFence"),
    of_attention(11, "the group's barrier after the queries are scaled", "SharedRace"),
    of_attention(12, "the values' own barrier (the keys' instead)", "AsyncInFlight"),
    of_attention(13, "fence.proxy.async before the bulk store", "ProxyFence"),
    of_attention(14, "starting the scores at zero", "Uninitialised"),
    of_attention(15, "the count of a named barrier (160 for 128)", "Mbarrier"),
    of_attention(16, "the values' stride (2048 for 1024)", "AsyncInFlight"),
    of_attention(17, "a stage's number within the ring", "AsyncInFlight"),
    of_attention(18, "wgmma.wait_group before the sums are read", "WgmmaRegisters"),
    of_attention(19, "a step of the total's shuffle", "difference"),
    of_attention(20, "wgmma.wait_group before keys are given back", "AsyncInFlight"),
    of_attention(21, "the wait for full keys, in one warp", "AsyncInFlight"),
    of_attention(22, "rescaling the total", "difference"),
    of_attention(23, "the order of a box's coordinates", "difference"),
];

#[test]
fn every_mutant_is_caught() {
    expect_caught("cuda::hopper_mutants::every_mutant_is_caught", SIX_SCHEDULES, MUTANTS);
}

#[test]
fn the_document_says_what_catches_which() {
    expect_documented(MUTANTS);
}
