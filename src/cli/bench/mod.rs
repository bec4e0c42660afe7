//! `bench`: the CUDA device, measured and checked. One file a subcommand.

mod check;
mod device;
mod frame;
mod kernels;

use crate::DeviceChoice;
use crate::device::cuda::{Cuda, Image, LoadedModule};
use clap::{Args, Subcommand};

use super::print::Printer;
use super::{Failure, Outcome};

/// Measure and check the CUDA device
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Check(check::Arguments),
    Frame(Box<frame::Arguments>),
    Kernels(kernels::Arguments),
    Device(device::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast bench check
  lseg-fast bench frame --model lseg.safetensors --size 480x480
  lseg-fast bench kernels --case '^gemm' --cublas --json";

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    match &arguments.what {
        What::Check(arguments) => check::run(arguments, printer),
        What::Frame(arguments) => frame::run(arguments, printer),
        What::Kernels(arguments) => kernels::run(arguments, printer),
        What::Device(arguments) => device::run(arguments, printer),
    }
}

/// The number of the GPU that was chosen.
fn ordinal(device: DeviceChoice) -> Result<usize, Failure> {
    match device {
        DeviceChoice::Cuda(ordinal) => Ok(ordinal.unwrap_or(0)),
        _ => Err(Failure::call("this measures a GPU: --device takes cuda or cuda:N")),
    }
}

fn gpu(device: DeviceChoice) -> Result<Cuda, Failure> {
    Ok(Cuda::new(ordinal(device)?)?)
}

/// Times of what the driver compiled are another compiler's: on a real GPU they are not taken.
fn refuse_compiled(gpu: &str, modules: &[LoadedModule]) -> Result<(), Failure> {
    let compiled: Vec<String> = modules
        .iter()
        .filter(|module| module.image == Image::Ptx)
        .map(|module| match &module.refused {
            Some(refused) => format!("{} ({refused})", module.module),
            None => module.module.to_owned(),
        })
        .collect();
    if compiled.is_empty() {
        return Ok(());
    }
    Err(Failure::call(format!(
        "on {gpu} the driver compiles PTX in the place of machine code, whose times would not be this program's: {}; build with \
         the GPU's architecture among LSEG_CUDA_ARCHS (or without that variable), and look for a newer driver where it refused",
        compiled.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_modules_are_named_with_the_reason() {
        let module =
            |module, image, refused: Option<&str>| LoadedModule { module, image, refused: refused.map(str::to_owned) };
        let fine = module("gemm", Image::Cubin(90), None);
        assert!(refuse_compiled("H100", std::slice::from_ref(&fine)).is_ok());
        let all =
            [fine, module("conv", Image::Ptx, Some("cubin sm_90: CUDA error 200")), module("argmax", Image::Ptx, None)];
        let reason = refuse_compiled("H100", &all).unwrap_err().to_string();
        for word in ["H100", "conv (cubin sm_90: CUDA error 200)", "argmax", "LSEG_CUDA_ARCHS"] {
            assert!(reason.contains(word), "{word:?} is not in {reason}");
        }
        assert!(!reason.contains("gemm"), "{reason}");
    }
}
