//! Every operation against float64, in two schedules of the virtual GPU on two kinds of it: 132 quick multiprocessors and 16,
//! so that tiles are chosen differently for the same shapes.

use std::collections::BTreeSet;

use lseg_fast::device::cuda::{IMAGES, Record};

use crate::bounds::{Subject, complaint};
use crate::cases::{AWKWARD, LONG};
use crate::children::in_children;
use crate::gpu::{device, run_case};

/// Before the name of a kernel that a child launched.
const LAUNCHED: &str = "launched ";

const SETTINGS: &[&[(&str, &str)]] =
    &[&[("VGPU_SCHED", "0"), ("VGPU_DEVICE", "h100")], &[("VGPU_SCHED", "1"), ("VGPU_DEVICE", "orin")]];

/// Every kernel of the build, but for those that only measure, is launched by some case in one of the settings. A real GPU is
/// one kind alone: there `bench check` goes through all tiles.
#[test]
fn operations_err_as_little_as_pytorch() {
    // A real GPU is what it is, and its minutes are few.
    let is_virtual = device().is_some_and(|cuda| cuda.info().is_virtual);
    let settings = if is_virtual { SETTINGS } else { &SETTINGS[..1] };
    let said = in_children("operations::operations_err_as_little_as_pytorch", settings, || {
        let Some(mut cuda) = device() else { return };
        cuda.record(Record::Launches);
        let only = std::env::var("LSEG_CASE").unwrap_or_default();
        let mut complaints = Vec::new();
        for case in AWKWARD.iter().chain(LONG).filter(|case| case.op.name().contains(&only)) {
            let subject = Subject::of(case);
            let complaint = match run_case(&mut cuda, case, &subject.prepared) {
                Ok(got) => complaint(&subject, &got),
                Err(reason) => {
                    // Not every failure kills the device, but a new one is always alive.
                    drop(cuda);
                    let Some(fresh) = device() else { panic!("{case:?}: {reason}; and no device after it") };
                    cuda = fresh;
                    cuda.record(Record::Launches);
                    Some(reason)
                }
            };
            cuda.take_launches().iter().for_each(|launch| println!("{LAUNCHED}{}", launch.kernel));
            complaints.extend(complaint.map(|complaint| format!("{case:?}: {complaint}")));
        }
        assert!(complaints.is_empty(), "{} cases:\n{}", complaints.len(), complaints.join("\n"));
    });
    let lines = said.iter().flat_map(|said| said.stdout.lines());
    let launched: BTreeSet<&str> = lines.filter_map(|line| Some(line.split_once(LAUNCHED)?.1)).collect();
    if !is_virtual || said.is_empty() || std::env::var_os("LSEG_CASE").is_some() {
        return;
    }
    let operations = IMAGES.iter().filter(|images| images.module != "bench");
    let kernels = operations.flat_map(|images| images.kernels).map(|kernel| kernel.name);
    let never: Vec<&str> = kernels.filter(|kernel| !launched.contains(kernel)).collect();
    assert!(never.is_empty(), "no case launches {never:?}");
}
