//! The device under test, and a case on it.

use lseg_fast::device::Executor;
use lseg_fast::device::cuda::{Cuda, Record, last_fault};

use crate::cases::{Case, Prepared, run};
use crate::support_gpu::found;

/// The first GPU; `None`, and a message, where there is none or no kernels were built.
pub fn device() -> Option<Cuda> {
    found(Cuda::new(0))
}

/// As [`device`], the virtual GPU alone.
pub fn virtual_device() -> Option<Cuda> {
    let mut cuda = device()?;
    if !cuda.info().is_virtual {
        eprintln!("skipped: {} counts nothing", cuda.info().name);
        return None;
    }
    cuda.record(Record::Counts);
    Some(cuda)
}

/// The output's numbers, or what went wrong: the virtual GPU's report where it has one. A fault kills the device.
pub fn run_case(device: &mut Cuda, case: &Case, prepared: &Prepared) -> Result<Vec<f32>, String> {
    match run::run(device, &case.op, prepared) {
        Ok(bytes) => Ok(run::numbers(&bytes, prepared.out_element, device.activation_bytes())),
        Err(reason) => Err(last_fault().filter(|report| !report.is_empty()).unwrap_or_else(|| reason.to_string())),
    }
}
