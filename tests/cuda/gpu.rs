//! The device under test, and a case on it.

use std::sync::LazyLock;

use lseg_fast::device::Device;
use lseg_fast::device::cuda::{Cuda, Record, set_virtual_devices};

use crate::{host, mutants, operations, overlap, warpgroups};
use testing::cases::{Case, Prepared, numbers, run};
use testing::gpu::found;

/// The devices that the virtual GPU plays in this process, the same whichever test is first. cuda:0, for the tests that need no
/// board of their own, is what VGPU_DEVICE says.
static BOARDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let first = std::env::var("VGPU_DEVICE").unwrap_or_else(|_| "rtx4090".to_owned());
    let others = operations::BOARDS
        .into_iter()
        .chain(mutants::BOARDS)
        .chain(host::BOARDS)
        .chain(overlap::BOARDS)
        .chain(warpgroups::BOARDS)
        .map(str::to_owned);
    let boards: Vec<String> = [first].into_iter().chain(others).collect();
    set_virtual_devices(&boards.join(",")).expect("no test starts the driver before");
    boards
});

/// The number of a board that [`operations`], [`mutants`], [`host`] or [`overlap`] asks for: of the virtual GPU alone.
pub fn ordinal(board: &str) -> usize {
    1 + BOARDS[1..].iter().position(|known| known == board).expect("its test names it")
}

/// The first GPU; `None`, and a message, where there is none or no kernels were built.
pub fn device() -> Option<Cuda> {
    open(0)
}

/// As [`device`], of this number.
pub fn open(ordinal: usize) -> Option<Cuda> {
    LazyLock::force(&BOARDS);
    found(Cuda::new(ordinal))
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
    match run(device, case, prepared) {
        Ok(bytes) => Ok(numbers(&bytes, case.out.element, device.activation_bytes())),
        Err(reason) => Err(reason.to_string()),
    }
}
