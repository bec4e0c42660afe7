//! Kernels broken on purpose (-DMUTANT=n): each mutant must be reported, or differ from float64, or show in the counts.
//! README.md shows the table; a test holds the two together.

use std::path::Path;

use super::compiled::{Variant, compile_all};
use super::gpu::Counts;
use super::hopper_kernels::workshop;
use super::kernels::{self, Wrong};
use super::reference::{ImageShape, WeightedShape};
use crate::children::{SCHEDULES, in_children};

pub struct Mutant {
    pub variant: Variant,
    pub dropped: &'static str,
    /// Launches that a right kernel passes.
    pub launches: fn(&Path) -> Result<Vec<Counts>, Wrong>,
    /// What catches it in schedule 0: a check's name, "difference" or [`CONFLICTS`].
    pub caught_by: &'static str,
    /// No harm where asynchronous operations end as early as they may: in odd schedules.
    pub harmless_early: bool,
}

/// Counted in schedule 0: the others keep diverged lanes apart, which collides by itself.
const CONFLICTS: &str = "bank conflicts";

fn product(module: &Path) -> Result<Vec<Counts>, Wrong> {
    // The last tiles of rows and columns are ragged, depth ends inside a tile, and the last one lies in the first stage.
    Ok(vec![kernels::product(module, (70, 72, 104))?])
}

fn weighted(module: &Path) -> Result<Vec<Counts>, Wrong> {
    Ok(vec![kernels::weighted(module, WeightedShape { batch: 2, queries: 77, keys: 78 })?])
}

fn standardise(module: &Path) -> Result<Vec<Counts>, Wrong> {
    [(5, 768), (3, 192)].into_iter().map(|(rows, width)| kernels::standardise(module, rows, width)).collect()
}

fn filter(module: &Path) -> Result<Vec<Counts>, Wrong> {
    Ok(vec![kernels::filter(module, ImageShape { batch: 2, height: 9, width: 19 })?])
}

fn enlarge(module: &Path) -> Result<Vec<Counts>, Wrong> {
    Ok(vec![kernels::enlarge(module, ImageShape { batch: 2, height: 5, width: 7 })?])
}

pub const fn mutant(
    file: &'static str,
    number: u32,
    dropped: &'static str,
    launches: fn(&Path) -> Result<Vec<Counts>, Wrong>,
    caught_by: &'static str,
) -> Mutant {
    Mutant { variant: Variant { file, number, options: &[] }, dropped, launches, caught_by, harmless_early: false }
}

const MUTANTS: &[Mutant] = &[
    mutant("product", 1, "bounds along depth", product, "OutOfBounds"),
    mutant("product", 2, "bounds of rows and columns (loads)", product, "OutOfBounds"),
    mutant("product", 3, "permutation of stores and loads", product, CONFLICTS),
    mutant("product", 4, "permutation of loads alone", product, "difference"),
    mutant("product", 5, "cp.async.wait_group: one group fewer", product, "AsyncInFlight"),
    mutant("product", 6, "barrier of the pipeline", product, "SharedRace"),
    mutant("product", 7, "bounds of rows (stores)", product, "OutOfBounds"),
    mutant("product", 8, "bounds of columns (bias)", product, "OutOfBounds"),
    mutant("product", 9, "__syncwarp before results leave", product, "SharedRace"),
    mutant("product", 10, "barrier before results take a stage", product, "SharedRace"),
    mutant("weighted", 1, "bounds of queries (loads)", weighted, "OutOfBounds"),
    mutant("weighted", 2, "bounds of keys (loads)", weighted, "OutOfBounds"),
    mutant("weighted", 3, "permutation of stores and loads", weighted, CONFLICTS),
    mutant("weighted", 4, "permutation of loads alone", weighted, "difference"),
    mutant("weighted", 5, "mask of keys", weighted, "difference"),
    mutant("weighted", 6, "a step of the maximum's shuffle", weighted, "difference"),
    mutant("weighted", 7, "cp.async.wait_group: one group fewer", weighted, "AsyncInFlight"),
    mutant("weighted", 8, "barrier of the pipeline", weighted, "SharedRace"),
    mutant("weighted", 9, "__syncwarp before results leave", weighted, "SharedRace"),
    mutant("weighted", 10, "bounds of queries (stores)", weighted, "GlobalRace"),
    mutant("standardise", 1, "a step of the sum's shuffle", standardise, "difference"),
    mutant("standardise", 2, "barrier before the partial sums are read", standardise, "SharedRace"),
    mutant("standardise", 3, "barrier before the next partial sums", standardise, "SharedRace"),
    mutant("standardise", 4, "bounds of columns (loads)", standardise, "OutOfBounds"),
    mutant("standardise", 5, "bounds of columns (variance)", standardise, "difference"),
    mutant("standardise", 6, "bounds of columns (stores)", standardise, "GlobalRace"),
    mutant("images", 1, "bounds of columns (loads)", filter, "OutOfBounds"),
    mutant("images", 2, "bounds of rows (loads)", filter, "OutOfBounds"),
    mutant("images", 3, "cp.async.wait_group", filter, "AsyncInFlight"),
    mutant("images", 4, "barrier after the loads", filter, "SharedRace"),
    mutant("images", 5, "bounds of columns (stores)", filter, "GlobalRace"),
    mutant("images", 6, "bounds of rows (stores)", filter, "GlobalRace"),
    mutant("images", 7, "bounds of the grid", enlarge, "GlobalRace"),
    mutant("images", 8, "clamp at the last pixel", enlarge, "OutOfBounds"),
];

impl Mutant {
    /// What caught it, if anything did.
    fn caught(&self, module: &Path) -> Option<String> {
        match (self.launches)(module) {
            Err(Wrong::Refused(refused)) => refused.report.split(" in ").next().map(str::to_string),
            Err(Wrong::Differs(_)) => Some("difference".into()),
            Ok(counts) if counts.iter().all(kernels::has_no_conflicts) => None,
            Ok(_) => Some(CONFLICTS.into()),
        }
    }

    fn row(&self) -> String {
        format!("| {} | {} | {} |", self.variant.file, self.dropped, self.caught_by)
    }
}

/// Settings of the virtual GPU, one for each child process.
pub type Settings = &'static [&'static [(&'static str, &'static str)]];

/// Compiles all, and launches each in the schedules.
pub fn expect_caught(test: &str, schedules: Settings, mutants: &[Mutant]) {
    let Some((into, nvcc)) = workshop() else { return };
    let variants: Vec<Variant> = mutants.iter().map(|m| m.variant.clone()).collect();
    compile_all(&variants, &nvcc, &into);
    in_children(test, schedules, || {
        let schedule = std::env::var("VGPU_SCHED").ok().and_then(|s| s.parse::<u32>().ok()).expect("a schedule");
        let mut wrong = Vec::new();
        for mutant in mutants {
            let caught = mutant.caught(&mutant.variant.compile(&nvcc, &into));
            let by = caught.as_deref().unwrap_or("nothing");
            let as_expected = if schedule == 0 {
                by == mutant.caught_by
            } else {
                let harmless = mutant.caught_by == CONFLICTS || (mutant.harmless_early && schedule % 2 == 1);
                harmless || !["nothing", CONFLICTS].contains(&by)
            };
            if !as_expected {
                let Mutant { variant, dropped, caught_by, .. } = mutant;
                let Variant { file, number, .. } = variant;
                wrong.push(format!("{file} {number}, without {dropped}: caught by {by}, not {caught_by}"));
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    });
}

/// Each mutant stands in README.md with what catches it.
pub fn expect_documented(mutants: &[Mutant]) {
    let document = include_str!("../../../README.md");
    let missing: Vec<String> = mutants.iter().map(Mutant::row).filter(|row| !document.contains(row)).collect();
    assert!(missing.is_empty(), "vgpu/README.md lacks these rows:\n{}", missing.join("\n"));
}

#[test]
fn every_mutant_is_caught() {
    expect_caught("cuda::mutants::every_mutant_is_caught", SCHEDULES, MUTANTS);
}

#[test]
fn the_document_says_what_catches_which() {
    expect_documented(MUTANTS);
}
