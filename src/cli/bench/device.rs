//! `bench device`: what the GPU is, and what of this program runs on it.

use crate::DeviceChoice;
use crate::bench::peaks::Peaks;
use crate::device::cuda::{Cuda, driver_file};
use clap::Args;
use serde::Serialize;

use super::super::print::Printer;
use super::super::table::{Align, Table, mib};
use super::super::{Failure, Outcome};
use super::gpu;

/// Show the GPU, its driver, its ceilings, and which machine code of this program it runs
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The GPU: cuda or cuda:N
    #[arg(long, default_value = "cuda", value_name = "DEVICE")]
    device: DeviceChoice,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast bench device
  lseg-fast bench device --device cuda:1 --json";

#[derive(Serialize)]
struct Report {
    device: String,
    #[serde(rename = "virtual")]
    is_virtual: bool,
    capability: String,
    /// 13000 is CUDA 13.0.
    driver: u32,
    driver_file: Option<String>,
    multiprocessors: u32,
    memory_bytes: usize,
    l2_bytes: usize,
    peaks: Option<Peaks>,
    /// Which kernels products run on, and whether launches overlap, in words.
    products: &'static str,
    overlap: &'static str,
    modules: Vec<Module>,
}

/// A kernel file's code on the GPU.
#[derive(Serialize)]
struct Module {
    module: &'static str,
    image: String,
    refused: Option<String>,
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let report = Report::of(&gpu(arguments.device)?);
    printer.print(&report, render)?;
    Ok(Outcome::Done)
}

impl Report {
    fn of(cuda: &Cuda) -> Report {
        let info = cuda.info();
        let modules = cuda.modules().iter().map(|module| Module {
            module: module.module,
            image: module.image.to_string(),
            refused: module.refused.clone(),
        });
        Report {
            device: info.name.clone(),
            is_virtual: info.is_virtual,
            capability: format!("{}.{}", info.capability.0, info.capability.1),
            driver: info.driver,
            driver_file: driver_file(),
            multiprocessors: info.multiprocessors,
            memory_bytes: info.memory,
            l2_bytes: info.l2_bytes,
            peaks: (!info.is_virtual).then(|| Peaks::of(info)).flatten(),
            products: cuda.products(),
            overlap: cuda.overlap(),
            modules: modules.collect(),
        }
    }
}

fn render(report: &Report) -> String {
    let mut table = Table::new([Align::Left, Align::Left]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("GPU", report.device.clone());
    row("compute capability", report.capability.clone());
    row("multiprocessors", report.multiprocessors.to_string());
    row("memory", mib(report.memory_bytes as u64));
    let known = |known: bool, value: String| if known { value } else { "not known".to_owned() };
    row("L2 cache", known(report.l2_bytes > 0, mib(report.l2_bytes as u64)));
    row("driver", format!("for CUDA {}.{}", report.driver / 1000, report.driver % 1000 / 10));
    row("driver's file", report.driver_file.clone().unwrap_or_else(|| "not known".to_owned()));
    match &report.peaks {
        Some(peaks) => {
            row("ceilings", format!("{:.0} TFLOP/s, {:.0} GB/s: {}", peaks.tflops, peaks.gb_per_s, peaks.basis))
        }
        None if report.is_virtual => {}
        None => row("ceilings", "not known".to_owned()),
    }
    for said in [report.products, report.overlap] {
        let (what, how) = said.split_once(": ").unwrap_or((said, ""));
        row(what, how.to_owned());
    }
    for Module { module, image, refused } in &report.modules {
        let refused = refused.as_ref().map_or_else(String::new, |refused| format!("; the driver refused {refused}"));
        row(&format!("kernels of {module}"), format!("{image}{refused}"));
    }
    table.render()
}
