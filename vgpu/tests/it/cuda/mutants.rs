//! Kernels broken on purpose (-DMUTANT=n): each mutant must be reported, or differ from float64, or show in the counts.
//! README.md shows the table; a test holds the two together.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::gpu::Counts;
use super::kernels::{self, Wrong};
use super::reference::{ImageShape, WeightedShape};
use crate::children::{SCHEDULES, in_children};
use crate::library::{kernels_directory, nvcc, sources};

struct Mutant {
    file: &'static str,
    number: u32,
    dropped: &'static str,
    /// Launches that a right kernel passes.
    launches: fn(&Path) -> Result<Vec<Counts>, Wrong>,
    /// What catches it in schedule 0: a check's name, "difference" or [`CONFLICTS`].
    caught_by: &'static str,
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

const fn mutant(
    file: &'static str,
    number: u32,
    dropped: &'static str,
    launches: fn(&Path) -> Result<Vec<Counts>, Wrong>,
    caught_by: &'static str,
) -> Mutant {
    Mutant { file, number, dropped, launches, caught_by }
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
    /// Its PTX, compiled when the sources are other than last time.
    fn compile(&self, nvcc: &Path, into: &Path) -> PathBuf {
        let source = sources().join(format!("{}.cu", self.file));
        let mut hasher = DefaultHasher::new();
        for file in [&source, &sources().join("mutants.cuh"), &sources().join("instructions.cuh")] {
            std::fs::read(file).expect("a source").hash(&mut hasher);
        }
        nvcc.hash(&mut hasher);
        let ptx = into.join(format!("{}-{}-{:016x}.ptx", self.file, self.number, hasher.finish()));
        if !ptx.is_file() {
            let part = ptx.with_extension(format!("{}.part", std::process::id()));
            let mut compile = Command::new(nvcc);
            compile.args(["-ptx", "-arch=compute_80", "-std=c++17", "-lineinfo"]);
            compile.arg(format!("-DMUTANT={}", self.number)).arg(&source).arg("-o").arg(&part);
            let output = compile.output().expect("nvcc starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::rename(&part, &ptx).expect("its place");
        }
        ptx
    }

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
        format!("| {} | {} | {} |", self.file, self.dropped, self.caught_by)
    }
}

#[test]
fn every_mutant_is_caught() {
    let (Some(kernels), Some(nvcc)) = (kernels_directory(), nvcc()) else { return };
    let into = kernels.with_file_name("mutants");
    std::fs::create_dir_all(&into).expect("a directory");
    // Two at a time: nvcc takes half a gigabyte each.
    std::thread::scope(|scope| {
        let compile = |odd| MUTANTS.iter().skip(odd).step_by(2).for_each(|m| drop(m.compile(&nvcc, &into)));
        scope.spawn(move || compile(0));
        scope.spawn(move || compile(1));
    });
    in_children("cuda::mutants::every_mutant_is_caught", SCHEDULES, || {
        let first = std::env::var("VGPU_SCHED").as_deref() == Ok("0");
        let mut wrong = Vec::new();
        for mutant in MUTANTS {
            let caught = mutant.caught(&mutant.compile(&nvcc, &into));
            let by = caught.as_deref().unwrap_or("nothing");
            let as_expected = if first {
                by == mutant.caught_by
            } else {
                mutant.caught_by == CONFLICTS || !["nothing", CONFLICTS].contains(&by)
            };
            if !as_expected {
                let Mutant { file, dropped, caught_by, .. } = mutant;
                wrong.push(format!("{file} without {dropped}: caught by {by}, not {caught_by}"));
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    });
}

#[test]
fn the_document_says_what_catches_which() {
    let document = include_str!("../../../README.md");
    let missing: Vec<String> = MUTANTS.iter().map(Mutant::row).filter(|row| !document.contains(row)).collect();
    assert!(missing.is_empty(), "vgpu/README.md lacks these rows:\n{}", missing.join("\n"));
}
