//! Each operation at the real model's shapes: first that it computes what the CPU device computes, then how fast.

use serde::Serialize;

use super::peaks::Peaks;
use crate::cases::traffic::least_bytes;
use crate::cases::{Add, Case, Op, Prepared, REAL, Weights, data, run};
use crate::device::cpu::Cpu;
use crate::device::cuda::{Cuda, Launch, Product};
use crate::device::plan::{self, Plan};
use crate::device::{Element, Executor, Func, Matrix, Upload, Vector};
use crate::error::{Error, Result};

/// Passes before those that count.
const WARM_UP: usize = 5;
/// ‖difference‖ / ‖result‖ that float16 explains: its rounding is 2⁻¹¹ of a value, and few operations round more than twice.
const TOLERANCE: f64 = 2e-3;
/// The share of labels that rounding may move.
const LABELS_MOVED: f64 = 1e-3;

/// A case of the table under the name that it is asked for with.
pub struct Subject {
    case: Case,
    name: String,
}

/// What a case yielded.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    /// In the order of their launches.
    pub kernels: Vec<Kernel>,
    /// ‖difference from the CPU‖ / ‖result‖; for labels the share that differ.
    pub error: f64,
    #[serde(flatten)]
    pub result: Measured,
}

/// A launch, as the compiler and the host made it.
#[derive(Debug, Serialize)]
pub struct Kernel {
    pub name: &'static str,
    /// Of a thread.
    pub registers: u32,
    /// Of a block.
    pub shared_bytes: u32,
    pub threads: u32,
    pub blocks: u64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Measured {
    Time(Time),
    Counts(Counted),
}

/// On a GPU, the L2 cache emptied before each run.
#[derive(Clone, Debug, Serialize)]
pub struct Time {
    pub median_us: f64,
    pub p99_us: f64,
    pub tflops: f64,
    /// Of the fewest bytes that the operation can move.
    pub gb_per_s: f64,
    /// Of the ceiling that is nearer, and which one: "tensor cores" or "memory".
    pub peak_share: Option<f64>,
    pub peak: Option<&'static str>,
    /// cuBLAS's median for the same product, where there is one and the library is installed.
    pub cublas_us: Option<f64>,
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
    fn new(case: &Case) -> Subject {
        let (_, plan) = planned(case);
        let op = &plan.ops[0];
        Subject { case: *case, name: format!("{} {}{}", op.name, op.shapes, epilogue(&case.op)) }
    }

    /// "gemm 901×1024 · 1024→4096 gelu"
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Kernel {
    fn of(launch: &Launch) -> Kernel {
        Kernel {
            name: launch.kernel,
            registers: launch.registers,
            shared_bytes: launch.shared,
            threads: launch.threads,
            blocks: launch.blocks(),
        }
    }
}

/// A case's values, which float16 holds exactly, and its plan, for which weights are handles with shapes.
fn planned(case: &Case) -> (Prepared, Plan) {
    let prepared = data::prepare(case).rounded(&case.op);
    let weights = prepared.upload(&mut Shapes).expect("shapes alone cannot fail");
    let plan = plan_of(&case.op, &prepared, &weights);
    (prepared, plan)
}

/// The real model's cases, in the table's order.
pub fn subjects() -> impl Iterator<Item = Subject> {
    REAL.iter().map(Subject::new)
}

fn plan_of(op: &Op, prepared: &Prepared, weights: &Weights) -> Plan {
    plan::record(2, &[], |d| {
        let io = run::forward(d, op, prepared, weights);
        d.output(io.out);
    })
}

fn epilogue(op: &Op) -> String {
    let (adds, func, relu_in) = match op {
        Op::Gemm { add, func, .. } => (usize::from(*add != Add::None), *func, false),
        Op::Conv { adds, func, relu_in, .. } => (*adds, *func, *relu_in),
        _ => (0, Func::Identity, false),
    };
    let func = match func {
        Func::Identity => "",
        Func::Relu => " relu",
        Func::Gelu => " gelu",
        Func::QuickGelu => " quick_gelu",
    };
    format!("{}{}{func}", if relu_in { " of relu" } else { "" }, " + residual".repeat(adds))
}

/// Checks the operation against the CPU device, then measures it `runs` times.
///
/// # Errors
/// A result that is not the CPU's; whatever the GPU answers.
pub fn measure(subject: &Subject, cuda: &mut Cuda, cpu: &mut Cpu, runs: usize) -> Result<Row> {
    let Subject { case, name } = subject;
    let (prepared, plan) = planned(case);
    cuda.take_launches();
    let error = check(subject, &prepared, cuda, cpu)?;
    let launches = cuda.take_launches();
    let result = if cuda.info().is_virtual {
        Measured::Counts(counted(&launches, least_bytes(&case.op, &prepared)))
    } else {
        Measured::Time(time(case, &prepared, &plan, cuda, runs)?)
    };
    Ok(Row { name: name.clone(), kernels: launches.iter().map(Kernel::of).collect(), error, result })
}

fn check(subject: &Subject, prepared: &Prepared, cuda: &mut Cuda, cpu: &mut Cpu) -> Result<f64> {
    let Subject { case, name } = subject;
    let bytes = run::run(cuda, &case.op, prepared)?;
    let got = run::numbers(&bytes, prepared.out_element, cuda.activation_bytes());
    let bytes = run::run(cpu, &case.op, prepared)?;
    let expected = run::numbers(&bytes, prepared.out_element, cpu.activation_bytes());
    let labels = prepared.out_element == Element::U16;
    let error = if labels { share_different(&got, &expected) } else { distance(&got, &expected) };
    // Not `error > tolerance`: NaN must not pass.
    if error <= if labels { LABELS_MOVED } else { TOLERANCE } {
        return Ok(error);
    }
    Err(Error::Device(format!(
        "{name}: the GPU's result is off by {error:.2e} of the CPU's, more than float16 explains; it was not timed"
    )))
}

fn share_different(got: &[f32], expected: &[f32]) -> f64 {
    got.iter().zip(expected).filter(|(got, expected)| got != expected).count() as f64 / expected.len() as f64
}

/// ‖got − expected‖ / ‖expected‖. Values that neither wrote are NaN in both.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    let (mut difference, mut size) = (0.0f64, 0.0f64);
    for (got, expected) in got.iter().zip(expected).filter(|(got, expected)| !(got.is_nan() && expected.is_nan())) {
        difference += f64::from(got - expected).powi(2);
        size += f64::from(*expected).powi(2);
    }
    (difference / size).sqrt()
}

fn counted(launches: &[Launch], least_bytes: u64) -> Counted {
    let sum = |of: fn(&Launch) -> u64| launches.iter().map(of).sum::<u64>();
    let (least, sectors) = (sum(|l| l.counts.global_load_least_sectors), sum(|l| l.counts.global_load_sectors));
    Counted {
        issued: sum(|l| l.counts.issued),
        mma_flop: sum(|l| l.counts.mma_flop),
        bank_conflicts: sum(|l| l.counts.shared_conflicts),
        coalesced: least as f64 / sectors.max(1) as f64,
        touched_bytes: 32 * sum(|l| l.counts.unique_load_sectors + l.counts.unique_store_sectors),
        least_bytes,
        local_bytes: sum(|l| l.counts.local_bytes),
    }
}

fn time(case: &Case, prepared: &Prepared, plan: &Plan, cuda: &mut Cuda, runs: usize) -> Result<Time> {
    let weights = prepared.upload(cuda)?;
    cuda.reserve(plan)?;
    let mut io = None;
    // The same buffers as the plan's, for their places.
    plan::record(cuda.activation_bytes(), &[], |d| io = Some(run::forward(d, &case.op, prepared, &weights)));
    let io = io.expect("recording runs the forward list");
    for (buf, input) in io.inputs.iter().zip(&prepared.inputs) {
        let bytes = input.values.bytes(buf.element, cuda.activation_bytes());
        cuda.write(plan.placed(*buf), 0, &bytes)?;
    }
    let mut seconds = Vec::with_capacity(runs);
    for i in 0..WARM_UP + runs {
        let second = cuda.time(plan, &mut |d| {
            run::forward(d, &case.op, prepared, &weights);
        })?;
        if i >= WARM_UP {
            seconds.push(second);
        }
    }
    let (median, p99) = quantiles(&mut seconds);
    let (tflops, gb_per_s) =
        (plan.ops[0].flop as f64 / median / 1e12, least_bytes(&case.op, prepared) as f64 / median / 1e9);
    let shares = Peaks::of(cuda.info()).map(|peaks| (tflops / peaks.tflops, gb_per_s / peaks.gb_per_s));
    let (peak_share, peak) = match shares {
        Some((tensor, memory)) if tensor > memory => (Some(tensor), Some("tensor cores")),
        Some((_, memory)) => (Some(memory), Some("memory")),
        None => (None, None),
    };
    let cublas_us = match product(&case.op) {
        Some(product) => cuda.time_cublas(product, WARM_UP, runs)?.map(|mut seconds| 1e6 * quantiles(&mut seconds).0),
        None => None,
    };
    Ok(Time { median_us: 1e6 * median, p99_us: 1e6 * p99, tflops, gb_per_s, peak_share, peak, cublas_us })
}

/// What cuBLAS computes as well: products of float16, without what happens to their results.
fn product(op: &Op) -> Option<Product> {
    match *op {
        Op::Gemm { batch, rows, k, n, x: Element::Activation, .. } => Some(Product { rows: batch * rows, k, n }),
        _ => None,
    }
}

/// Median and 99th percentile.
pub fn quantiles(seconds: &mut [f64]) -> (f64, f64) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share).round() as usize];
    if seconds.is_empty() { (f64::NAN, f64::NAN) } else { (at(0.5), at(0.99)) }
}

/// Takes weights for their shapes.
struct Shapes;

impl Upload for Shapes {
    fn matrix(&mut self, n: usize, k: usize, _: &[f32]) -> Result<Matrix> {
        Ok(Matrix { index: 0, n, k })
    }

    fn vector(&mut self, data: &[f32]) -> Result<Vector> {
        Ok(Vector { index: 0, len: data.len() })
    }

    fn replace_matrix(&mut self, old: Matrix, n: usize, k: usize, _: &[f32]) -> Result<Matrix> {
        Ok(Matrix { index: old.index, n, k })
    }

    fn replace_vector(&mut self, old: Vector, data: &[f32]) -> Result<Vector> {
        Ok(Vector { index: old.index, len: data.len() })
    }
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
