//! Each operation at the real model's shapes: first that it computes what the CPU device computes, then how fast.
//!
//! Times are taken in two states of the GPU's caches. *Frame-like*: passes follow each other in one graph, activations are cached,
//! weights are not, because each pass takes another copy of them until the copies are three times the L2 cache. *Cold*: before
//! each pass the L2 cache is read full of other bytes.

use serde::Serialize;

use super::case;
use super::peaks::Peaks;
use super::sweep::ways;
use crate::device::cpu::Cpu;
use crate::device::cuda::{
    self, Cuda, Effort, Family, Forced, GpuLimits, Launched, LibraryGemm, Record, Rival, Target,
};
use crate::device::{Device, Program, Upload};
use crate::error::{Error, Result};
use crate::ops::cases::{self, Case, Prepared, Weights, awkward, real};
use crate::ops::{Element, Func, Op, Weight};
use crate::plan_report::Cut;

/// ‖difference‖ / ‖result‖ that float16 explains: its rounding is 2⁻¹¹ of a value, and few operations round more than twice.
const TOLERANCE: f64 = 2e-3;
/// The share of labels that rounding may move.
const LABELS_MOVED: f64 = 1e-3;
/// Passes of a graph, at least and at most: enough that the graph's own launch counts little; small weights would need thousands
/// of copies to fill a cache.
const PASSES: (usize, usize) = (20, 256);

/// How long a case is measured.
#[derive(Clone, Copy, Debug)]
pub struct Efforts {
    pub frame_like: Effort,
    /// The same by the family of kernels that the device does not choose, just after.
    pub other_family: Effort,
    pub cold: Effort,
    /// For each of the rivals' libraries.
    pub rival: Effort,
    /// Of each configuration of a [`sweep`](super::sweep::sweep).
    pub sweep: Effort,
    /// Passes of a graph, at most.
    pub passes: usize,
}

impl Efforts {
    /// On a GPU, whose clock takes a quarter of a second to rise.
    pub fn of(runs: usize) -> Efforts {
        let effort = |warm_up, runs| Effort { warm_up, runs };
        Efforts {
            frame_like: effort(0.3, runs),
            other_family: effort(0.05, runs.div_ceil(2)),
            cold: effort(0.02, runs),
            rival: effort(0.05, runs),
            sweep: effort(0.015, 9),
            passes: PASSES.1,
        }
    }

    /// Where times mean nothing.
    pub fn rehearsal() -> Efforts {
        let once = Effort { warm_up: 0.0, runs: 1 };
        Efforts { frame_like: once, other_family: once, cold: once, rival: once, sweep: once, passes: 2 }
    }
}

/// A case of the table under the name that it is asked for with.
pub struct Subject {
    pub(super) case: &'static Case,
    pub(super) name: String,
}

/// A case that the GPU computed as the CPU does.
pub struct Checked {
    pub(super) name: String,
    pub(super) case: &'static Case,
    pub(super) prepared: Prepared,
    /// As the device chooses; then by the other family of kernels, where it has two that take it.
    pub(super) attempts: Vec<Attempt>,
}

/// One way in which a case was computed.
pub(super) struct Attempt {
    way: Forced,
    error: f64,
    launches: Vec<Launched>,
}

/// What a case yielded.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    /// Of products, convolutions and attention: "warps" (mma.sync) or "warpgroups" (wgmma).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<&'static str>,
    /// Whether the device takes this family by itself.
    pub chosen: bool,
    /// ‖difference from the CPU‖ / ‖result‖; for labels the share that differ.
    pub error: f64,
    /// In the order of their launches.
    pub kernels: Vec<Kernel>,
    #[serde(flatten)]
    pub result: Measured,
}

/// A launch, as the compiler and the host made it.
#[derive(Debug, Serialize)]
pub struct Kernel {
    pub name: &'static str,
    /// "cubin sm_90", or "PTX" that the driver compiled.
    pub image: String,
    #[serde(flatten)]
    pub cut: Cut,
    pub grid: [u32; 3],
    /// Of a thread.
    pub registers: u32,
    /// Of a block.
    pub shared_bytes: u32,
    pub threads: u32,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Measured {
    Time(Box<Time>),
    Counts(Counted),
    /// It was only checked.
    Nothing {},
}

/// On a GPU.
#[derive(Clone, Debug, Serialize)]
pub struct Time {
    pub frame_like: Spread,
    pub cold: Spread,
    /// The multiprocessors' clock just after.
    pub sm_mhz: f64,
    /// Medians for the same product in the frame-like state, where they were asked for: cuBLAS without what happens to a result,
    /// and the quickest algorithm of cuBLASLt with it.
    pub cublas_us: Option<f64>,
    pub cublaslt_us: Option<f64>,
    /// Of how many algorithms.
    pub cublaslt_algorithms: Option<usize>,
    /// Why there are none although they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rivals_failed: Option<String>,
}

/// Times in one state of the caches.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    pub median_us: f64,
    pub p99_us: f64,
    pub tflops: f64,
    /// Of the fewest bytes that the operation can move.
    pub gb_per_s: f64,
    /// Of the ceiling that is nearer, and which one: "tensor cores" or "memory".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<&'static str>,
}

/// On the virtual GPU, which has no time.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    /// Warp instructions of PTX.
    pub issued: u64,
    pub mma_flop: u64,
    pub bank_conflicts: u64,
    /// The fewest sectors that hold the loaded bytes, of those touched.
    pub coalesced: f64,
    pub touched_bytes: u64,
    pub least_bytes: u64,
    pub local_bytes: u64,
}

impl Subject {
    pub(super) fn new(case: &'static Case) -> Subject {
        Subject { case, name: format!("{}{}", case.op, epilogue(&case.op)) }
    }

    /// "gemm 901×1024 · 1024→4096 gelu"
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there are several ways to compute it.
    pub fn has_choices(&self) -> bool {
        !ways(&self.case.op).is_empty()
    }
}

impl Kernel {
    pub(super) fn of(launch: &Launched) -> Kernel {
        Kernel {
            name: launch.kernel,
            image: launch.image.to_string(),
            cut: Cut::of(launch.config),
            grid: launch.grid,
            registers: launch.registers,
            shared_bytes: launch.shared,
            threads: launch.threads,
        }
    }
}

impl Counted {
    pub(super) fn of(launches: &[Launched], least_bytes: u64) -> Counted {
        let sum = |of: fn(&Launched) -> u64| launches.iter().map(of).sum::<u64>();
        let (least, sectors) = (sum(|l| l.counts.global_load_least_sectors), sum(|l| l.counts.global_load_sectors));
        Counted {
            issued: sum(|l| l.counts.issued),
            mma_flop: sum(|l| l.counts.mma_flop),
            bank_conflicts: sum(|l| l.counts.shared_conflicts),
            coalesced: if sectors == 0 { 1.0 } else { least as f64 / sectors as f64 },
            touched_bytes: 32 * sum(|l| l.counts.unique_load_sectors + l.counts.unique_store_sectors),
            least_bytes,
            local_bytes: sum(|l| l.counts.local_bytes),
        }
    }
}

pub(super) fn family(launch: &Launched) -> Option<&'static str> {
    launch.family.map(Family::name)
}

/// The real model's cases, in the table's order.
pub fn subjects() -> impl Iterator<Item = Subject> {
    real().iter().map(Subject::new)
}

/// A small case of each operation, for rehearsals: of those that take few FLOP the one that takes most.
pub fn small_subjects() -> impl Iterator<Item = Subject> {
    const FEW: usize = 5_000_000;
    let mut largest: Vec<(usize, &Case)> = Vec::new();
    for case in awkward().iter().filter(|case| is_usual(&case.op)) {
        let flop = case.op.flop();
        match largest.iter_mut().find(|(_, known)| known.op.name() == case.op.name()) {
            Some(known) if flop <= FEW && flop > known.0 => *known = (flop, case),
            None if flop <= FEW => largest.push((flop, case)),
            _ => {}
        }
    }
    largest.into_iter().map(|(_, case)| Subject::new(case))
}

/// Of the kind that real models have: what takes the kernels with a choice of tiles.
fn is_usual(op: &Op) -> bool {
    match op {
        Op::Gemm(op) => op.w.weight.k.is_multiple_of(8) && op.x.buf.element == Element::Activation,
        Op::Conv(op) => op.x.channels().is_multiple_of(8),
        Op::Polyphase(op) => op.x.channels().is_multiple_of(8),
        Op::Attention(op) => !op.causal && op.size() == 64,
        _ => true,
    }
}

fn epilogue(op: &Op) -> String {
    match op {
        Op::Gemm(op) => op.epilogue.describe(),
        Op::Conv(op) => format!("{}{}", if op.relu_in { " of relu" } else { "" }, op.epilogue.describe()),
        _ => String::new(),
    }
}

/// Checks the operation against the CPU device: as the device chooses, and by the other family of kernels.
///
/// # Errors
/// A result that is not the CPU's; whatever the GPU answers.
pub fn check(subject: &Subject, cuda: &mut Cuda, cpu: &mut Cpu) -> Result<Checked> {
    let Subject { case, name } = subject;
    let prepared = case.prepare().rounded(&case.op);
    let expected = result(cpu, case, &prepared)?;
    let mut attempts = Vec::new();
    for way in std::iter::once(Forced::default()).chain(other_family(case, cuda.limits())) {
        cuda.force(way);
        cuda.record(Record::Counts);
        let got = result(cuda, case, &prepared);
        let launches = cuda.take_launches();
        cuda.record(Record::Nothing);
        cuda.force(Forced::default());
        cuda.drop_weights();
        let error = difference(&got?, &expected, case.out.element);
        if error.is_nan() || error > tolerance(case.out.element) {
            let by = launches.first().map_or("", |launch| launch.kernel);
            return Err(Error::Device(format!(
                "{name}: the GPU's result ({by}) is off by {error:.2e} of the CPU's, more than float16 explains; it was not timed"
            )));
        }
        attempts.push(Attempt { way, error, launches });
    }
    Ok(Checked { name: name.clone(), case, prepared, attempts })
}

/// What makes a device of these limits compute a case by kernels of the family that it would not choose; none where only one takes it.
fn other_family(case: &Case, limits: GpuLimits) -> Option<Forced> {
    let plan = case::plan_of(case, 2, &case.shapes());
    let family = |forced: Forced| {
        let launches = cuda::compile(&plan, Target { forced, ..Target::absent(limits) }).ok()?;
        launches.of_step(0).first()?.family()
    };
    let other = family(Forced::default())?.other();
    let way = Forced { family: Some(other), ..Forced::default() };
    (family(way) == Some(other)).then_some(way)
}

/// Whether a GPU computes a case, which can be told without one.
///
/// # Errors
/// [`Error::Device`]: why not.
pub fn on_gpu(case: &Case) -> Result<()> {
    let any = GpuLimits::absent((8, 0), 1);
    cuda::compile(&case::plan_of(case, 2, &case.shapes()), Target::absent(any)).map(drop)
}

/// The case's output as numbers.
pub(super) fn result(device: &mut dyn Device, case: &Case, prepared: &Prepared) -> Result<Vec<f32>> {
    let bytes = case::run(device, case, prepared)?;
    Ok(cases::numbers(&bytes, case.out.element, device.activation_bytes()))
}

/// Masks and pictures, whose values are right or wrong.
fn is_discrete(element: Element) -> bool {
    matches!(element, Element::U8 | Element::U16)
}

pub(super) fn tolerance(element: Element) -> f64 {
    if is_discrete(element) { LABELS_MOVED } else { TOLERANCE }
}

/// As [`Row::error`].
pub(super) fn difference(got: &[f32], expected: &[f32], element: Element) -> f64 {
    if is_discrete(element) { share_different(got, expected) } else { distance(got, expected) }
}

fn share_different(got: &[f32], expected: &[f32]) -> f64 {
    got.iter().zip(expected).filter(|(got, expected)| got != expected).count() as f64 / expected.len() as f64
}

/// ‖got − expected‖ / ‖expected‖. Values that neither wrote are NaN in both; what is too large for the element is infinite in both.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    let (mut difference, mut size) = (0.0f64, 0.0f64);
    let is_same =
        |got: f32, expected: f32| (got.is_nan() && expected.is_nan()) || (got.is_infinite() && got == expected);
    for (got, expected) in got.iter().zip(expected).filter(|(got, expected)| !is_same(**got, **expected)) {
        difference += f64::from(got - expected).powi(2);
        size += f64::from(*expected).powi(2);
    }
    if difference == 0.0 { 0.0 } else { (difference / size).sqrt() }
}

impl Checked {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rows of a case that is measured no further: one for each family of kernels, first that which the device chooses.
    pub fn unmeasured(&self) -> Vec<Row> {
        self.attempts.iter().map(|attempt| self.row(attempt, Measured::Nothing {})).collect()
    }

    /// With what the virtual GPU counted.
    pub fn counted(&self) -> Vec<Row> {
        let counts = |attempt: &Attempt| Measured::Counts(Counted::of(&attempt.launches, self.case.least_bytes()));
        self.attempts.iter().map(|attempt| self.row(attempt, counts(attempt))).collect()
    }

    fn row(&self, Attempt { way, error, launches }: &Attempt, result: Measured) -> Row {
        let kernels = launches.iter().map(Kernel::of).collect();
        let (family, chosen) = (launches.first().and_then(family), *way == Forced::default());
        Row { name: self.name.clone(), family, chosen, error: *error, kernels, result }
    }

    /// Measures it, and its rivals where they are wanted, whose times are in each row.
    ///
    /// # Errors
    /// Whatever the GPU answers. What a rival answers is in the row.
    pub fn time(&self, cuda: &mut Cuda, efforts: &Efforts, rivals: bool) -> Result<Vec<Row>> {
        let passes = self.passes(cuda, efforts);
        let mut programs = self.programs(cuda, passes)?;
        let mut times = Vec::new();
        for Attempt { way, .. } in &self.attempts {
            cuda.force(*way);
            let effort = if *way == Forced::default() { efforts.frame_like } else { efforts.other_family };
            let frame_like = cuda.time_in_graph(&mut programs, effort)?;
            times.push((frame_like, cuda.time_cold(&mut programs[0], efforts.cold)?, cuda.sm_mhz()?));
        }
        cuda.force(Forced::default());
        cuda.drop_weights();
        let rival = library_gemm(&self.case.op).filter(|_| rivals).map(|p| cuda.time_rivals(p, passes, efforts.rival));
        let rivals_failed = rival.as_ref().and_then(|rival| rival.as_ref().err()).map(ToString::to_string);
        let rival = rival.and_then(Result::ok);
        let median = |seconds: &[f64]| (!seconds.is_empty()).then(|| 1e6 * quantiles(&mut seconds.to_vec()).0);
        let peaks = Peaks::of(cuda.info()).filter(|_| !cuda.info().is_virtual);
        let spread = |seconds| self.spread(seconds, peaks.as_ref());
        let row = |(attempt, (frame_like, cold, sm_mhz)): (&Attempt, (Vec<f64>, Vec<f64>, f64))| {
            let time = Time {
                frame_like: spread(frame_like),
                cold: spread(cold),
                sm_mhz,
                cublas_us: rival.as_ref().and_then(|rival| median(&rival.cublas)),
                cublaslt_us: rival.as_ref().and_then(|rival| median(&rival.lt)),
                cublaslt_algorithms: rival.as_ref().map(|Rival { algorithms, .. }| *algorithms),
                rivals_failed: rivals_failed.clone(),
            };
            self.row(attempt, Measured::Time(Box::new(time)))
        };
        Ok(self.attempts.iter().zip(times).map(row).collect())
    }

    /// Passes of a graph whose copies of the weights are three times the L2 cache.
    pub(super) fn passes(&self, cuda: &Cuda, efforts: &Efforts) -> usize {
        let matrices: usize = self.prepared.matrices.iter().map(|matrix| 2 * matrix.n * matrix.k).sum();
        let vectors: usize = self.prepared.vectors.iter().map(|vector| 4 * vector.len()).sum();
        let copies = (3 * cuda.info().l2_bytes).div_ceil((matrices + vectors).max(1));
        copies.clamp(PASSES.0, PASSES.1).min(efforts.passes)
    }

    /// Copies of the weights, one for each pass; all others are given back.
    fn uploaded(&self, cuda: &mut Cuda, passes: usize) -> Result<Vec<Weights>> {
        cuda.drop_weights();
        let matrices = self.prepared.matrices.iter().map(|m| Weight::Matrix { n: m.n, k: m.k, halves: false });
        let vectors = self.prepared.vectors.iter().map(|vector| Weight::Vector(vector.len()));
        cuda.expect(&matrices.chain(vectors).collect::<Vec<_>>().repeat(passes))?;
        (0..passes).map(|_| self.prepared.upload(cuda)).collect()
    }

    /// The operation once for each copy of the weights, with its inputs written.
    pub(super) fn programs(&self, cuda: &mut Cuda, passes: usize) -> Result<Vec<Program>> {
        let weights = self.uploaded(cuda, passes)?;
        weights.iter().map(|weights| self.program(cuda, weights)).collect()
    }

    fn program(&self, cuda: &mut Cuda, weights: &Weights) -> Result<Program> {
        let activation = cuda.activation_bytes();
        let mut program = cuda.compile(case::plan_of(self.case, activation, weights))?;
        for (buf, input) in self.case.inputs().iter().zip(&self.prepared.inputs) {
            cuda.write(&mut program, *buf, 0, &input.values.bytes(buf.element, activation))?;
        }
        Ok(program)
    }

    fn spread(&self, mut seconds: Vec<f64>, peaks: Option<&Peaks>) -> Spread {
        let (median, p99) = quantiles(&mut seconds);
        let (tflops, gb_per_s) =
            (self.case.op.flop() as f64 / median / 1e12, self.case.least_bytes() as f64 / median / 1e9);
        let (peak_share, peak) = match peaks.map(|peaks| (tflops / peaks.tflops, gb_per_s / peaks.gb_per_s)) {
            Some((tensor, memory)) if tensor > memory => (Some(tensor), Some("tensor cores")),
            Some((_, memory)) => (Some(memory), Some("memory")),
            None => (None, None),
        };
        Spread { median_us: 1e6 * median, p99_us: 1e6 * p99, tflops, gb_per_s, peak_share, peak }
    }
}

/// What NVIDIA's libraries compute as well: products of float16.
fn library_gemm(op: &Op) -> Option<LibraryGemm> {
    match op {
        Op::Gemm(op) if op.x.count > 1 && op.x.buf.element == Element::Activation => Some(LibraryGemm {
            rows: op.x.all_count(),
            k: op.w.weight.k,
            n: op.w.weight.n,
            residual: op.epilogue.add[0].is_some() && op.out.buf.element == Element::F32,
            gelu: op.epilogue.func == Func::Gelu,
        }),
        _ => None,
    }
}

/// Median and 99th percentile.
pub fn quantiles(seconds: &mut [f64]) -> (f64, f64) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share).round() as usize];
    if seconds.is_empty() { (f64::NAN, f64::NAN) } else { (at(0.5), at(0.99)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_order_statistics() {
        let mut seconds: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(quantiles(&mut seconds), (50.0, 99.0));
        assert_eq!(quantiles(&mut [7.0]), (7.0, 7.0));
    }

    #[test]
    fn a_wrong_result_is_no_small_distance() {
        let right = [1.0, -2.0, 3.0, f32::NAN];
        assert_eq!(distance(&right, &right), 0.0);
        let passes = |got: [f32; 4]| distance(&got, &right) <= TOLERANCE;
        assert!(!passes([1.0, -2.0, 3.1, f32::NAN]));
        assert!(!passes([1.0, f32::NAN, 3.0, f32::NAN]));
        assert!(!passes([1.0, -2.0, 3.0, 0.0]));
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: Vec<String> = subjects().map(|subject| subject.name).collect();
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(names.len(), different.len(), "{names:#?}");
        assert!(names.contains(&"gemm 901×1024 · 1024→4096 gelu".to_owned()), "{names:#?}");
    }
}
