//! `bench check`: whether the GPU computes what it should.

use std::path::PathBuf;

use crate::DeviceChoice;
use crate::bench::check::{Scope, Verdict, check, steps};
use clap::Args;
use regex::Regex;

use super::super::batch::progress_bar;
use super::super::print::Printer;
use super::super::{Failure, Outcome, message};
use super::ordinal;

/// Check that this GPU computes what it should: every kernel, and whole networks
///
/// Every kernel at every case of the project's tests, in all tiles, against the CPU; then the golden networks against what PyTorch
/// makes of them in float64. One line of verdict; exit code 1 where something is wrong. Half a minute on the
/// virtual GPU.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The GPU: cuda or cuda:N
    #[arg(long, default_value = "cuda", value_name = "DEVICE")]
    device: DeviceChoice,

    /// Only the operations and networks whose name this regular expression finds, such as '^Gemm' or 'vit16$'
    #[arg(long, value_name = "REGEX")]
    case: Option<Regex>,

    /// A folder of golden networks, such as the repository's tests/golden [default: those in this program]
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast bench check
  lseg-fast bench check --device cuda:1 --json";

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let scope = Scope { only: arguments.case.as_ref(), golden: arguments.golden.as_deref() };
    if steps(scope) == 0 {
        return Err(Failure::call("no operation and no network has such a name; without --case all are checked"));
    }
    let progress = progress_bar(steps(scope), false);
    let verdict = check(ordinal(arguments.device)?, scope, &mut |name| {
        progress.set_message(name.to_owned());
        progress.inc(1);
    });
    progress.finish_and_clear();
    let verdict = verdict?;
    for failure in &verdict.failures {
        message::error(format!("{}: {}", failure.name, failure.reason));
    }
    printer.print(&verdict, render)?;
    Ok(if verdict.failures.is_empty() { Outcome::Done } else { Outcome::SomeFailed })
}

fn render(verdict: &Verdict) -> String {
    let Verdict { device, cases, comparisons, kernels, kernels_of, networks, failures, seconds, .. } = verdict;
    let word = match failures.len() {
        0 => "right".to_owned(),
        1 => "WRONG in 1 place".to_owned(),
        many => format!("WRONG in {many} places"),
    };
    let networks = match networks {
        0 => "no golden network".to_owned(),
        1 => "1 golden network".to_owned(),
        many => format!("{many} golden networks"),
    };
    format!(
        "{device}: {word}; {kernels} of {kernels_of} kernels in {comparisons} comparisons of {cases} cases, {networks}, \
         {seconds:.0} s\n"
    )
}
