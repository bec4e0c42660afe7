//! Kernels broken on purpose (-DMUTANT=n): each mutant must be reported, or differ from float64, or show in the counts.
//! README.md shows the table; a test holds the two together.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::gpu::{Counts, SCHEDULES, in_children, kernels_directory, nvcc};
use crate::kernels::{self, LARGE_GEMM, SMALL_GEMM, Wrong};
use crate::reference::{AttentionShape, MapShape};

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

fn gemm(module: &Path) -> Result<Vec<Counts>, Wrong> {
    // The last tile of rows is ragged, and that of columns, and depth ends inside a tile; the second has odd columns.
    let sizes = [(LARGE_GEMM, (140, 136, 168)), (SMALL_GEMM, (70, 69, 264))];
    sizes.into_iter().map(|(kernel, size)| kernels::gemm(module, kernel, size)).collect()
}

fn attention(module: &Path) -> Result<Vec<Counts>, Wrong> {
    let shapes = [(2, 300, 1, false), (2, 77, 2, true)];
    let shape = |(batch, tokens, heads, causal)| AttentionShape { batch, tokens, heads, causal };
    shapes.into_iter().map(|s| kernels::attention(module, shape(s), 1)).collect()
}

fn layer_norm(module: &Path) -> Result<Vec<Counts>, Wrong> {
    [(5, 768), (3, 192)].into_iter().map(|(rows, width)| kernels::layer_norm(module, rows, width)).collect()
}

fn depthwise(module: &Path) -> Result<Vec<Counts>, Wrong> {
    let shape = MapShape { batch: 2, height: 9, width: 19, channels: 72 };
    Ok(vec![kernels::depthwise(module, shape)?])
}

fn upsample(module: &Path) -> Result<Vec<Counts>, Wrong> {
    let shape = MapShape { batch: 2, height: 5, width: 7, channels: 24 };
    Ok(vec![kernels::upsample(module, shape)?])
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
    mutant("gemm", 1, "bounds along depth", gemm, "OutOfBounds"),
    mutant("gemm", 2, "bounds of rows and columns (loads)", gemm, "OutOfBounds"),
    mutant("gemm", 3, "swizzle of stores and loads", gemm, CONFLICTS),
    mutant("gemm", 4, "swizzle of loads alone", gemm, "difference"),
    mutant("gemm", 5, "cp.async.wait_group: one group fewer", gemm, "AsyncInFlight"),
    mutant("gemm", 6, "barrier of the pipeline", gemm, "SharedRace"),
    mutant("gemm", 7, "bounds of rows (stores)", gemm, "OutOfBounds"),
    mutant("gemm", 8, "bounds of columns (bias)", gemm, "OutOfBounds"),
    mutant("gemm", 9, "__syncwarp before results leave", gemm, "SharedRace"),
    mutant("gemm", 10, "barrier before results take the stages", gemm, "SharedRace"),
    mutant("attention", 1, "bounds of tokens (loads)", attention, "OutOfBounds"),
    mutant("attention", 2, "swizzle of stores and loads", attention, CONFLICTS),
    mutant("attention", 3, "swizzle of loads alone", attention, "difference"),
    mutant("attention", 4, "mask of keys", attention, "difference"),
    mutant("attention", 5, "a step of the maximum's shuffle", attention, "difference"),
    mutant("attention", 6, "__syncwarp before results leave", attention, "SharedRace"),
    mutant("attention", 7, "bounds of tokens (stores)", attention, "GlobalRace"),
    mutant("attention", 8, "cp.async.wait_group: one group fewer", attention, "AsyncInFlight"),
    mutant("attention", 9, "barrier of the pipeline", attention, "SharedRace"),
    mutant("layer_norm", 1, "a step of the sum's shuffle", layer_norm, "difference"),
    mutant("layer_norm", 2, "bounds of rows", layer_norm, "OutOfBounds"),
    mutant("layer_norm", 3, "bounds of columns (loads)", layer_norm, "OutOfBounds"),
    mutant("layer_norm", 4, "bounds of columns (variance)", layer_norm, "difference"),
    mutant("layer_norm", 5, "bounds of columns (stores)", layer_norm, "OutOfBounds"),
    mutant("depthwise_upsample", 1, "bounds of columns (loads)", depthwise, "OutOfBounds"),
    mutant("depthwise_upsample", 2, "bounds of rows (loads)", depthwise, "OutOfBounds"),
    mutant("depthwise_upsample", 3, "cp.async.wait_group", depthwise, "AsyncInFlight"),
    mutant("depthwise_upsample", 4, "barrier after the loads", depthwise, "SharedRace"),
    mutant("depthwise_upsample", 5, "bounds of columns (stores)", depthwise, "GlobalRace"),
    mutant("depthwise_upsample", 6, "bounds of rows (stores)", depthwise, "GlobalRace"),
    mutant("depthwise_upsample", 7, "bounds of the grid", upsample, "GlobalRace"),
    mutant("depthwise_upsample", 8, "clamp at the last pixel", upsample, "OutOfBounds"),
];

impl Mutant {
    /// Its PTX, compiled when the sources are other than last time.
    fn compile(&self, nvcc: &Path, into: &Path) -> PathBuf {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels");
        let source = sources.join(format!("{}.cu", self.file));
        let mut hasher = DefaultHasher::new();
        for file in [&source, &sources.join("common.cuh"), &sources.join("ptx.cuh")] {
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
    in_children("mutants::every_mutant_is_caught", SCHEDULES, || {
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
    let document = include_str!("../../README.md");
    let missing: Vec<String> = MUTANTS.iter().map(Mutant::row).filter(|row| !document.contains(row)).collect();
    assert!(missing.is_empty(), "vgpu/README.md lacks these rows:\n{}", missing.join("\n"));
}
