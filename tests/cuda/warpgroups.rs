//! Products on warpgroups (kernels/sm90): every tile on every case that it takes, at sizes that are ragged against all of them, in
//! four schedules of the virtual GPU: copies and products as early and as late as they may be, warps in other orders.

use std::collections::BTreeMap;

use lseg_fast::bench::prediction::Board;
use lseg_fast::device::Device;
use lseg_fast::device::cuda::{
    Config, Cuda, Family, Forced, Kernel, Launched, MODULES, Record, configs, set_virtual_devices,
};
use lseg_fast::model::detect::HeadBlockOverride;
use lseg_fast::ops::{Element, Op};
use lseg_fast::{DeviceChoice, Options};

use crate::bounds::{Subject, complaint};
use crate::golden::{LIMITS, check_scores};
use crate::gpu::{device, open, ordinal, run_case};
use crate::host::small::{Layers, Small};
use crate::mutants::{around_attention, of_convolutions, of_norms};
use crate::operations::is_refused;
use crate::overlap;
use testing::cases::{Case, awkward, long, real};
use testing::golden::{self, frame};
use testing::process::child;
use testing::results::mask_and_scores;

pub const BOARDS: [&str; 4] = ["h100:sched=0", "h100:sched=1", "h100:sched=2", "h100:sched=3"];

fn takes(op: &Op) -> Option<Element> {
    match op {
        op if is_refused(op) => None,
        Op::Gemm(op) => Some(op.x.buf.element),
        Op::Conv(op) => Some(op.x.element),
        _ => None,
    }
}

/// The kernel by which this tile computes a case and what is wrong with it; none where the device takes another for it, for what its
/// shape needs.
fn complaint_of(cuda: &mut Cuda, subject: &Subject, case: &Case, config: Config) -> Option<(String, Option<String>)> {
    cuda.force(Forced { config: Some(config), ..Forced::default() });
    let got = run_case(cuda, case, &subject.prepared);
    let launch = cuda.take_launches().into_iter().next();
    let kernel = launch.as_ref().map_or_else(|| format!("{config:?}"), |launch| launch.kernel.to_owned());
    match got {
        Ok(got) if launch.is_some_and(|launch| launch.config == Some(config)) => {
            Some((kernel, complaint(subject, &got)))
        }
        Ok(_) => None,
        Err(report) => {
            *cuda = opened(cuda.info().ordinal);
            Some((kernel, Some(report)))
        }
    }
}

fn opened(ordinal: usize) -> Cuda {
    let mut cuda = open(ordinal).expect("it was there before");
    cuda.record(Record::Launches);
    cuda
}

/// Whether the GPU is virtual, and it in each of the schedules; a real one is one.
fn boards() -> Option<(bool, Vec<Cuda>)> {
    let is_virtual = device()?.info().is_virtual;
    let ordinals = if is_virtual { BOARDS.map(ordinal).to_vec() } else { vec![0] };
    Some((is_virtual, ordinals.into_iter().map(opened).collect()))
}

#[test]
fn every_tile_is_right_in_every_schedule() {
    let Some((is_virtual, mut devices)) = boards() else { return };
    let only = std::env::var("LSEG_CASE").unwrap_or_default();
    let (mut complaints, mut comparisons) = (Vec::new(), BTreeMap::new());
    for case in awkward().iter().filter(|case| case.name.contains(&only)) {
        let Some(element) = takes(&case.op) else { continue };
        let subject = Subject::of(case);
        for config in configs(element).filter(|config| config.tile.is_of_warpgroups()) {
            for (cuda, board) in devices.iter_mut().zip(BOARDS) {
                let Some((kernel, complaint)) = complaint_of(cuda, &subject, case, config) else { continue };
                complaints.extend(complaint.map(|what| format!("{} by {kernel} on {board}: {what}", case.name)));
                *comparisons.entry(kernel).or_insert(0) += 1;
            }
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    if is_virtual && only.is_empty() {
        let of_products = MODULES.iter().filter(|embedded| ["sm90/gemm", "sm90/conv"].contains(&embedded.module));
        let kernels = of_products.flat_map(|embedded| embedded.kernels);
        let few = |kernel: &&Kernel| comparisons.get(kernel.name).is_none_or(|n| *n < 8);
        let rarely: Vec<&str> = kernels.filter(few).map(|kernel| kernel.name).collect();
        assert!(rarely.is_empty(), "too few cases by {rarely:?}");
    }
}

/// Cases of an operation by its kernels of warpgroups in every schedule, each in one launch; how many by each kernel.
fn in_every_schedule(is_meant: fn(&Case) -> bool, ways: &[Forced]) -> BTreeMap<&'static str, usize> {
    let Some((_, mut devices)) = boards() else { return BTreeMap::new() };
    let only = std::env::var("LSEG_CASE").unwrap_or_default();
    let (mut complaints, mut kernels) = (Vec::new(), BTreeMap::new());
    let cases = awkward().iter().chain(long()).filter(|case| is_meant(case) && !is_refused(&case.op));
    for case in cases.filter(|case| case.name.contains(&only)) {
        let subject = Subject::of(case);
        for way in ways {
            for (cuda, board) in devices.iter_mut().zip(BOARDS) {
                cuda.force(Forced { family: Some(Family::Warpgroups), ..*way });
                let got = run_case(cuda, case, &subject.prepared);
                let launches = cuda.take_launches();
                let wrong = got.map_or_else(Some, |got| complaint(&subject, &got));
                if let Some(wrong) = wrong {
                    complaints.push(format!("{} on {board}: {wrong}", case.name));
                    *cuda = opened(cuda.info().ordinal);
                    continue;
                }
                let [launch] = &launches[..] else { panic!("{} launches {launches:?}", case.name) };
                let family = if cuda.limits().warpgroups { Family::Warpgroups } else { Family::Warps };
                assert_eq!(launch.family, Some(family), "{}", launch.kernel);
                *kernels.entry(launch.kernel).or_insert(0) += 1;
            }
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    kernels
}

/// Whether every case was tried, on the virtual GPU.
fn tries_all() -> bool {
    device().is_some_and(|cuda| cuda.info().is_virtual) && std::env::var("LSEG_CASE").is_err()
}

/// All kernels of attention on every case that they take.
#[test]
fn attention_is_right_in_every_schedule() {
    let ways = [false, true].map(|polynomial| Forced { polynomial, ..Forced::default() });
    let kernels = in_every_schedule(|case| matches!(case.op, Op::Attention(_)), &ways);
    let enough = |cases: &usize| *cases >= 8 * BOARDS.len();
    assert!(!tries_all() || kernels.len() == 3 && kernels.values().all(enough), "{kernels:?}");
}

/// The product and the norm behind it as one, of rows as wide as there are kernels for.
#[test]
fn gemm_norm_is_right_in_every_schedule() {
    let has_kernel = |case: &Case| matches!(&case.op, Op::GemmNorm(op) if [512, 1024].contains(&op.out.channels()));
    let kernels = in_every_schedule(has_kernel, &[Forced::default()]);
    let enough = |cases: &usize| *cases >= 6 * BOARDS.len();
    assert!(!tries_all() || kernels.len() == 2 && kernels.values().all(enough), "{kernels:?}");
}

/// Among launches that overlap, step by step, captured and replayed: the same bits in every schedule.
fn overlaps_its_neighbours(launches: u64, chain: impl Fn(&mut Cuda) -> Small) {
    if !device().is_some_and(|cuda| cuda.info().is_virtual) {
        return;
    }
    let mut first = None;
    for board in overlap::BOARDS {
        let mut cuda = open(ordinal(board)).expect("it was there before");
        let mut small = chain(&mut cuda);
        for round in 0..3 {
            let before = cuda.calls();
            let bits = small.run(&mut cuda, 1).unwrap_or_else(|report| panic!("{board}, {round}: {report}"));
            let overlapping = cuda.calls().overlapping - before.overlapping;
            assert_eq!(overlapping, if round < 2 { launches - 1 } else { 0 }, "{board}, {round}");
            assert_eq!(bits, *first.get_or_insert(bits.clone()), "{board}, {round}");
        }
    }
}

#[test]
fn attention_overlaps_its_neighbours() {
    overlaps_its_neighbours(4, |cuda| around_attention(cuda, 300));
}

/// On every kind of tile: small and large, of blocks that share columns and of parts.
#[test]
fn convolutions_overlap_their_neighbours() {
    let kernels =
        || MODULES.iter().filter(|embedded| embedded.module == "sm90/conv").flat_map(|embedded| embedded.kernels);
    let is_of_maps = |config: &Config| kernels().any(|kernel| kernel.tile() == config.tile);
    for config in configs(Element::Activation).filter(is_of_maps) {
        overlaps_its_neighbours(5, |cuda| {
            cuda.force(Forced { config: Some(config), ..Forced::default() });
            of_convolutions(cuda, 3)
        });
    }
}

#[test]
fn gemm_norm_overlaps_its_neighbours() {
    overlaps_its_neighbours(3, |cuda| of_norms(cuda, 300));
}

/// What the model makes of the encoder's product onto the stream with its norm on an H100, as one kernel and as two of which the
/// first is of warpgroups, too: a prediction, no measurement.
#[test]
fn gemm_norm_is_predicted_to_gain() {
    let Some(mut cuda) = device().filter(|cuda| cuda.info().is_virtual).map(|_| opened(ordinal(BOARDS[0]))) else {
        return;
    };
    let board = Board::named("h100").expect("boards.json has it");
    cuda.record(Record::Counts);
    let mut predicted = |name: &str| {
        let case =
            real().iter().find(|case| case.name.starts_with(name)).unwrap_or_else(|| panic!("{name} is no case"));
        run_case(&mut cuda, case, &case.prepare()).unwrap();
        let launches = cuda.take_launches().into_iter();
        let us: f64 = launches.map(|launch| board.predict(&Launched { overlaps: true, ..launch })).sum();
        println!("{}: {us:.2} µs (model prediction, not measured)", case.name);
        us
    };
    let one = predicted("gemm_norm/1x901x1024x1024");
    let two = predicted("gemm/1x901x1024x1024-to_f32-bias-add_one") + predicted("layer_norm/1x901x1024");
    assert!(one < 0.8 * two, "{one} and {two}");
}

/// What the model makes of the encoder's attention on an H100, by both families: a prediction, no measurement.
#[test]
fn attention_on_warpgroups_is_predicted_to_gain() {
    let Some(mut cuda) = device().filter(|cuda| cuda.info().is_virtual).map(|_| opened(ordinal(BOARDS[0]))) else {
        return;
    };
    let (board, case) =
        (Board::named("h100").expect("boards.json has it"), real().iter().find(|case| case.op.name() == "attention"));
    let (case, prepared) = case.map(|case| (case, case.prepare())).expect("the encoder has attention");
    cuda.record(Record::Counts);
    let ways = [(Family::Warps, false), (Family::Warpgroups, false), (Family::Warpgroups, true)];
    let [warps, warpgroups, polynomial] = ways.map(|(family, polynomial)| {
        cuda.force(Forced { family: Some(family), polynomial, ..Forced::default() });
        run_case(&mut cuda, case, &prepared).unwrap();
        let launch = cuda.take_launches().remove(0);
        // In a frame.
        let us = board.predict(&Launched { overlaps: true, ..launch });
        println!("{} by {}: {us:.2} µs (model prediction, not measured)", case.name, family.name());
        us
    });
    assert!(warpgroups < 0.8 * warps, "{warpgroups} and {warps}");
    // So it is not chosen.
    assert!(warpgroups <= polynomial, "{warpgroups} and {polynomial}");
}

/// What the model makes of the network's convolutions on an H100, as they are chosen and on warps: a prediction, no measurement.
#[test]
fn convolutions_on_warpgroups_are_predicted_to_gain() {
    let Some(mut cuda) = device().filter(|cuda| cuda.info().is_virtual).map(|_| opened(ordinal(BOARDS[0]))) else {
        return;
    };
    let board = Board::named("h100").expect("boards.json has it");
    cuda.record(Record::Counts);
    let (mut large, mut others) = (0, 0);
    let is_meant = |case: &&Case| match &case.op {
        Op::Conv(op) => op.w.kernel > 1 || op.w.stride > 1 || op.relu_in,
        _ => false,
    };
    for case in real().iter().filter(is_meant) {
        let prepared = case.prepare();
        let ways = [Forced::default(), Forced { family: Some(Family::Warps), ..Forced::default() }];
        let [(us, chosen), (on_warps, _)] = ways.map(|way| {
            cuda.force(way);
            run_case(&mut cuda, case, &prepared).unwrap();
            let launch = cuda.take_launches().remove(0);
            // In a frame.
            (board.predict(&Launched { overlaps: true, ..launch }), launch)
        });
        println!(
            "{} by {}: {us:.2} µs, by warps {on_warps:.2} µs (model prediction, not measured)",
            case.name, chosen.kernel
        );
        assert!(us <= on_warps, "{}: {us} and {on_warps}", case.name);
        let is_on_warpgroups = chosen.family == Some(Family::Warpgroups);
        if let Op::Conv(op) = &case.op
            && op.out.rows() == 120 * 120
        {
            assert!(is_on_warpgroups && us <= 0.7 * on_warps, "{}: {us} and {on_warps}", case.name);
            large += 1;
        } else if is_on_warpgroups {
            others += 1;
        }
    }
    assert!(large > 0 && others > 2, "{large} and {others}");
}

/// Attention's family can be forced; a GPU without warpgroups has the other.
#[test]
fn a_forced_family_computes_attention() {
    if !device().is_some_and(|cuda| cuda.info().is_virtual) {
        return;
    }
    let case = awkward().iter().find(|case| case.name.contains("1x129-heads1x64-causal")).expect("a case");
    let subject = Subject::of(case);
    for (number, has_warpgroups) in [(ordinal(BOARDS[0]), true), (0, false)] {
        let mut cuda = opened(number);
        for family in [Family::Warps, Family::Warpgroups] {
            cuda.force(Forced { family: Some(family), ..Forced::default() });
            let got = run_case(&mut cuda, case, &subject.prepared).unwrap();
            assert_eq!(complaint(&subject, &got), None);
            let used = cuda.take_launches().first().and_then(|launch| launch.family);
            assert_eq!(used, Some(if has_warpgroups { family } else { Family::Warps }), "{}", family.name());
        }
    }
}

/// A family that is forced computes what it takes; a product that it does not take, or on a GPU that has it not, the other one does.
#[test]
fn a_forced_family_computes_what_it_takes() {
    if !device().is_some_and(|cuda| cuda.info().is_virtual) {
        return;
    }
    for (number, has_warpgroups) in [(ordinal(BOARDS[0]), true), (0, false)] {
        let mut cuda = opened(number);
        assert_eq!(cuda.limits().warpgroups, has_warpgroups, "{}", cuda.info().name);
        // Results whose rows are no multiple of 16 bytes have no tensor maps.
        for (outputs, takes) in [(48, has_warpgroups), (20, false)] {
            let mut small = Layers::new(&mut cuda, outputs).compile(&mut cuda, 37);
            for family in [Family::Warps, Family::Warpgroups] {
                cuda.force(Forced { family: Some(family), ..Forced::default() });
                small.run(&mut cuda, 1).unwrap();
                let used = cuda.take_launches().iter().find_map(|launch| launch.config).expect("a product").family();
                let expected = if takes { family } else { Family::Warps };
                assert_eq!(used, expected, "{outputs} columns by {}", family.name());
            }
            cuda.force(Forced::default());
        }
    }
}

/// A driver that describes no tensors has all products on mma.sync, says so, and its frames are right. From CUDA 12.0 on products are
/// the warpgroups', whether launches overlap (12.3) or not. A process has one driver, as old as the oldest of its boards.
#[test]
fn older_drivers_have_products_on_warps() {
    const TEST: &str = "warpgroups::older_drivers_have_products_on_warps";
    const BOARD: &str = "LSEG_TEST_BOARD";
    if let Ok(board) = std::env::var(BOARD) {
        set_virtual_devices(&board).unwrap();
        let mut cuda = Cuda::new(0).unwrap();
        println!("{}", cuda.products());
        cuda.force(Forced { family: Some(Family::Warpgroups), ..Forced::default() });
        Layers::new(&mut cuda, 48).compile(&mut cuda, 37).run(&mut cuda, 1).unwrap();
        let case = golden::Case::open("vit16");
        let on = |device| {
            let (folder, options) = (tempfile::tempdir().unwrap(), Options { device, ..Options::default() });
            let mut engine = case.engine_on(&HeadBlockOverride::default(), folder.path(), &options);
            mask_and_scores(&mut engine, &frame(&case.photo(0))).unwrap()
        };
        check_scores(&board, &on(DeviceChoice::Cuda(Some(0))), &on(DeviceChoice::Cpu), LIMITS.logits);
        return;
    }
    if !device().is_some_and(|cuda| cuda.info().is_virtual) {
        return;
    }
    let (by_wgmma, by_mma) = ("products: warpgroups (wgmma) of sm_90a", "products: warps (mma.sync)");
    for (board, expected) in [
        ("h100", by_wgmma.to_owned()),
        ("h100:driver=12000", by_wgmma.to_owned()),
        ("h100:driver=11080", format!("{by_mma}, for the driver is older than CUDA 12.0")),
        ("rtx4090", format!("{by_mma}\n")),
    ] {
        let counts = tempfile::NamedTempFile::new().unwrap();
        let output = child(TEST).env(BOARD, board).env("VGPU_COUNTS", counts.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(&expected), "{board}: {said}{output:?}");
        let text = std::fs::read_to_string(counts.path()).unwrap();
        let launched: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let has = |family: &str| launched.iter().any(|launch| launch["kernel"].as_str().unwrap().starts_with(family));
        assert_eq!((has("gemm_"), has("wgmma_")), (true, expected == by_wgmma), "{board}");
        assert!(has("attention_") || expected == by_wgmma, "{board}");
    }
}
