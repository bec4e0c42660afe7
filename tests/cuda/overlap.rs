//! Launches that begin before the one before them has ended (programmatic dependent launches, compute capability 9.0): which do,
//! that results keep their bits, and that a kernel which does not wait is found.

use lseg_fast::device::cuda::{Cuda, EmbeddedModule, MODULES, OVERLAP, set_virtual_devices};
use lseg_fast::device::{Calls, Device};
use lseg_fast::model::detect::HeadBlockOverride;
use lseg_fast::{DeviceChoice, Engine, Options, Segmentation};

use crate::gpu::{device, ordinal};
use crate::host::small::Layers;
use crate::mutants::of_every_kernel;
use testing::golden::{Case, frame};
use testing::process::child;
use testing::results::mask_and_scores;

/// Copies and products as soon, and as late, as they may be; warps in other orders.
pub const BOARDS: [&str; 5] = ["h100:sched=0", "h100:sched=1", "h100:sched=2", "h100:sched=5", "h100:sched=6"];

/// The GPUs to test it on, by number: a real one where its launches overlap.
fn boards() -> Vec<usize> {
    match device() {
        Some(cuda) if cuda.info().is_virtual => BOARDS.map(ordinal).to_vec(),
        Some(cuda) if cuda.overlap() == OVERLAP => vec![0],
        _ => {
            eprintln!("skipped: there is no GPU on which launches overlap");
            Vec::new()
        }
    }
}

/// Launches that overlap, graphs, and edges of the last one.
fn counted(before: Calls, after: Calls) -> (u64, u64, u64, usize) {
    let (launches, overlapping) = (after.launches - before.launches, after.overlapping - before.overlapping);
    (launches, overlapping, after.graph_launches - before.graph_launches, after.programmatic_edges)
}

fn engine(name: &'static str, ordinal: usize) -> (Case, Engine) {
    let (case, folder) = (Case::open(name), tempfile::tempdir().unwrap());
    let options = Options { device: DeviceChoice::Cuda(Some(ordinal)), threads: Some(2), ..Options::default() };
    let engine = case.engine_on(&HeadBlockOverride::default(), folder.path(), &options);
    (case, engine)
}

/// Every launch but a pass's first overlaps the one before, step by step, captured (the edges say so) and replayed, whatever the
/// order; all give the same bits.
#[test]
fn frames_of_overlapping_launches_have_the_same_bits_in_every_schedule() {
    let mut first = None;
    for board in boards() {
        let (case, mut engine) = engine("vit32", board);
        let photo = case.photo(0);
        for round in 0..3 {
            let before = engine.device_calls();
            let mut result = Segmentation::default();
            engine.segment_into(&frame(&photo), &mut result).unwrap();
            let (launches, overlapping, graphs, edges) = counted(before, engine.device_calls());
            match round {
                0 => {
                    assert!(launches > 50 && graphs == 0, "{launches} launches, {graphs} graphs");
                    assert_eq!(overlapping, launches - 1);
                }
                1 => assert_eq!((overlapping, graphs, edges as u64), (launches - 1, 1, launches - 1), "captured"),
                _ => assert!(launches == 0 && graphs == 1 && edges > 50, "{launches} {graphs} {edges}"),
            }
            assert_eq!(result, *first.get_or_insert(result.clone()), "cuda:{board}, frame {round}");
        }
    }
}

/// Scores, whose bits no rounding to labels hides, of products that are cut in parts and of counters that are cleared first.
#[test]
fn scores_of_overlapping_launches_have_the_same_bits() {
    let mut first = None;
    for board in boards().into_iter().take(2) {
        let (case, mut engine) = engine("vit16", board);
        let photo = case.photo(0);
        for round in 0..3 {
            let result = mask_and_scores(&mut engine, &frame(&photo)).unwrap();
            assert_eq!(result, *first.get_or_insert(result.clone()), "cuda:{board}, frame {round}");
        }
    }
}

/// The virtual GPU finds a kernel that reads before it has waited, whatever the order; and that the right one waits.
#[test]
fn a_kernel_that_does_not_wait_is_found() {
    if !device().is_some_and(|cuda| cuda.info().is_virtual) {
        return;
    }
    let compiled = |mutant| of_every_kernel(mutant, "gemm", true);
    let Some((right, wrong)) = compiled(0).zip(compiled(90)) else { return };
    for board in BOARDS.map(ordinal) {
        let pass = |ptx: &str| {
            let mut cuda = Cuda::with_ptx(board, &[("gemm", ptx)]).unwrap();
            Layers::new(&mut cuda, 48).compile(&mut cuda, 37).run(&mut cuda, 1)
        };
        pass(&right).unwrap();
        let report = pass(&wrong).unwrap_err().to_string();
        assert!(report.contains("GridDependency"), "{report}");
    }
}

/// In the text for 9.0 no kernel for all GPUs touches global memory before it has waited; those for 9.0 alone wait somewhere.
#[test]
fn every_kernel_waits_before_it_touches_memory() {
    let touches = ["ld.global", "st.global", "atom.", "red.", "cp.async", "cp.reduce"];
    let text = |module: &EmbeddedModule| {
        let (_, packed) = module.ptx.iter().find(|(level, _)| *level == 90).expect("every module has text for 9.0");
        String::from_utf8(packed.unpacked()).unwrap()
    };
    for module in MODULES {
        let text = text(module);
        for kernel in module.kernels {
            let (_, body) = text.split_once(&format!(".entry {}(", kernel.name)).expect("the kernel's text");
            let body = body.split(".entry ").next().unwrap();
            let lines = || body.lines().map(str::trim_start);
            let waits = lines().position(|line| line.starts_with("griddepcontrol.wait"));
            // Weights are nobody's result: they may be prefetched before.
            let is_access =
                |line: &str| touches.iter().any(|touch| line.contains(touch)) && !line.contains(".prefetch.");
            let touched = lines().position(is_access);
            assert!(waits.is_some(), "{} of {}.cu does not wait", kernel.name, module.module);
            assert!(
                module.module.starts_with("sm90/") || touched.is_none_or(|touched| waits.unwrap() < touched),
                "{} of {}.cu touches memory before it waits",
                kernel.name,
                module.module
            );
        }
    }
}

/// Code for older GPUs has no wait: it is launched as it ever was, and what follows it may overlap.
#[test]
fn kernels_that_cannot_wait_do_not_overlap() {
    if !device().is_some_and(|cuda| cuda.info().is_virtual) {
        return;
    }
    let Some(older) = of_every_kernel(0, "gemm", false) else { return };
    let launched = |replaced: &[(&str, &str)]| {
        let mut cuda = Cuda::with_ptx(ordinal(BOARDS[0]), replaced).unwrap();
        let mut small = Layers::new(&mut cuda, 48).compile(&mut cuda, 37);
        let asked = [1, 2].map(|seed| {
            let before = cuda.calls();
            small.run(&mut cuda, seed).unwrap();
            counted(before, cuda.calls())
        });
        assert_eq!(asked.map(|(launches, ..)| launches), [2, 2]);
        asked.map(|(_, overlapping, _, edges)| (overlapping, edges))
    };
    assert_eq!(launched(&[]), [(1, 0), (1, 1)]);
    assert_eq!(launched(&[("gemm", &older)]), [(0, 0), (0, 0)]);
}

/// Where the driver is too old, and on GPUs that are. A process has one driver, as old as the oldest of its boards.
#[test]
fn older_drivers_and_gpus_launch_one_after_the_other() {
    const TEST: &str = "overlap::older_drivers_and_gpus_launch_one_after_the_other";
    const BOARD: &str = "LSEG_TEST_BOARD";
    if let Ok(board) = std::env::var(BOARD) {
        set_virtual_devices(&board).unwrap();
        let mut cuda = Cuda::new(0).unwrap();
        let mut small = Layers::new(&mut cuda, 48).compile(&mut cuda, 37);
        let results = [1, 1, 1].map(|seed| small.run(&mut cuda, seed).unwrap());
        assert!(results[0] == results[1] && results[1] == results[2]);
        let Calls { overlapping, programmatic_edges, graph_launches, .. } = cuda.calls();
        assert_eq!((overlapping > 0, programmatic_edges > 0, graph_launches), (board == "h100", board == "h100", 2));
        println!("{}", cuda.overlap());
        return;
    }
    if !device().is_some_and(|cuda| cuda.info().is_virtual) {
        return;
    }
    for (board, expected) in [
        ("h100", OVERLAP),
        ("h100:driver=12020", "launches do not overlap: the driver is older than CUDA 12.3"),
        ("rtx4090", "launches do not overlap: the GPU is older than compute capability 9.0"),
    ] {
        let output = child(TEST).env(BOARD, board).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(expected), "{board}: {said}{output:?}");
    }
}
