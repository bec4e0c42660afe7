//! Whether a GPU computes what it should: every kernel at every case of the table against the CPU device, in every way that the
//! device could choose, then the golden networks against PyTorch.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use regex::Regex;
use serde::Serialize;

use super::golden::{NETWORKS, Network};
use super::kernels::{difference, on_gpu, result, tolerance};
use super::sweep::ways;
use crate::device::cpu::Cpu;
use crate::device::cuda::{Config, Cuda, Family, Forced, Launched, MODULES, MOST_PARTS, Record};
use crate::device::{Device, DeviceChoice};
use crate::engine::Options;
use crate::error::Result;
use crate::ops::cases::{Case, awkward, long};

/// What was looked at, and what is wrong.
#[derive(Debug, Serialize)]
pub struct Verdict {
    pub device: String,
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    pub cases: usize,
    /// Ways to compute them that were compared.
    pub comparisons: usize,
    /// Different kernels launched, of those in the program.
    pub kernels: usize,
    pub kernels_of: usize,
    pub networks: usize,
    pub failures: Vec<Failure>,
    pub seconds: f64,
}

#[derive(Debug, Serialize)]
pub struct Failure {
    pub name: String,
    pub reason: String,
}

/// Kernels that no operation launches.
const MEASURING: &str = "probe";

/// What is checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// Only the operations and networks whose name this finds.
    pub only: Option<&'a Regex>,
    /// Where the golden networks are, such as `tests/golden`; the program's own if none.
    pub golden: Option<&'a Path>,
}

/// The cases and networks that are meant; of the cases those that a GPU computes.
fn chosen(scope: Scope<'_>) -> (Vec<&'static Case>, Vec<&'static Network>) {
    let takes = |name: &str| scope.only.is_none_or(|only| only.is_match(name));
    let cases = awkward().iter().chain(long()).filter(|case| on_gpu(case).is_ok());
    (
        cases.filter(|case| takes(&case.name)).collect(),
        NETWORKS.iter().filter(|network| takes(network.name) && network.is_there(scope.golden)).collect(),
    )
}

/// The number of steps that [`check`] reports.
pub fn steps(scope: Scope<'_>) -> usize {
    let (cases, networks) = chosen(scope);
    cases.len() + networks.len()
}

/// All of that; `step` hears the name of each step that begins.
///
/// # Errors
/// A GPU that cannot be opened (again, after a kernel went wrong).
pub fn check(ordinal: usize, scope: Scope<'_>, step: &mut dyn FnMut(&str)) -> Result<Verdict> {
    let begin = Instant::now();
    let mut cpu = Cpu::new(None)?;
    let mut cuda = Cuda::new(ordinal)?;
    let (device, is_virtual) = (cuda.describe(), cuda.info().is_virtual);
    let (mut failures, mut comparisons, mut launched) = (Vec::new(), 0, BTreeSet::new());
    let (cases, networks) = chosen(scope);
    for case in &cases {
        step(case.op.name());
        let outcome = check_case(case, &mut cuda, &mut cpu, &mut launched);
        comparisons += outcome.comparisons;
        if !outcome.wrong.is_empty() {
            failures.extend(outcome.wrong.into_iter().map(|reason| Failure { name: case.name.clone(), reason }));
            // A kernel that went wrong may have taken the device with it.
            drop(cuda);
            cuda = Cuda::new(ordinal)?;
        }
    }
    // Not those for other GPUs, nor for newer drivers.
    let loaded: Vec<&str> = cuda.modules().iter().map(|module| module.module).collect();
    drop(cuda);
    let options = Options { device: DeviceChoice::Cuda(Some(ordinal)), threads: None, ..Options::default() };
    for network in &networks {
        step(network.name);
        if let Err(reason) = network.check(scope.golden, &options) {
            failures.push(Failure { name: network.name.to_owned(), reason: reason.to_string() });
        }
    }
    let all = || {
        MODULES
            .iter()
            .filter(|embedded| embedded.module != MEASURING && loaded.contains(&embedded.module))
            .flat_map(|embedded| embedded.kernels)
    };
    let never: Vec<&str> = all().map(|kernel| kernel.name).filter(|name| !launched.contains(name)).collect();
    if scope.only.is_none() && !never.is_empty() {
        let reason = format!("no case launched them: {}", never.join(", "));
        failures.push(Failure { name: "kernels".to_owned(), reason });
    }
    Ok(Verdict {
        device,
        is_virtual,
        cases: cases.len(),
        comparisons,
        kernels: launched.len(),
        kernels_of: all().count(),
        networks: networks.len(),
        failures,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

struct Outcome {
    comparisons: usize,
    wrong: Vec<String>,
}

fn check_case(case: &Case, cuda: &mut Cuda, cpu: &mut Cpu, launched: &mut BTreeSet<&'static str>) -> Outcome {
    let prepared = case.prepare().rounded(&case.op);
    let expected = match result(cpu, case, &prepared) {
        Ok(expected) => expected,
        Err(reason) => return Outcome { comparisons: 0, wrong: vec![reason.to_string()] },
    };
    let (mut comparisons, mut wrong) = (0, Vec::new());
    // As it chooses by itself, then each tile uncut and cut in two and in most parts.
    // Tiles of warpgroups have parts of their own.
    let is_few = |config: Config| config.family() == Family::Warpgroups || [1, 2, MOST_PARTS].contains(&config.parts);
    let few = |way: &Forced| way.config.is_none_or(is_few);
    let forced = ways(&case.op).into_iter().filter(few);
    for way in std::iter::once(Forced::default()).chain(forced) {
        cuda.force(way);
        cuda.record(Record::Launches);
        let got = result(cuda, case, &prepared);
        let launches = cuda.take_launches();
        cuda.drop_weights();
        let error = match got {
            Ok(got) => difference(&got, &expected, case.out.element),
            Err(reason) => {
                // Nothing more can be asked of it.
                wrong.push(reason.to_string());
                break;
            }
        };
        // The shape does not allow this one: it was computed as before.
        let is_way = |launch: &Launched| {
            way.config.is_none_or(|config| launch.config == Some(config))
                && way.family.is_none_or(|family| launch.family == Some(family))
        };
        if !launches.first().is_some_and(is_way) {
            continue;
        }
        comparisons += 1;
        launched.extend(launches.iter().map(|launch| launch.kernel));
        // Not `error > tolerance`: NaN must not pass.
        if error <= tolerance(case.out.element) {
            continue;
        }
        let by: Vec<String> = launches
            .iter()
            .map(|launch| match launch.config {
                Some(config) => format!("{} in {} parts", launch.kernel, config.parts),
                None => launch.kernel.to_owned(),
            })
            .collect();
        wrong.push(format!("{}: off by {error:.2e} of the CPU's result", by.join(", ")));
    }
    cuda.force(Forced::default());
    Outcome { comparisons, wrong }
}
