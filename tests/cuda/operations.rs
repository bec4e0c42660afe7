//! Every operation against float64, in two schedules of the virtual GPU on two kinds of it: 128 multiprocessors and 16,
//! so that tiles are chosen differently for the same shapes.

use crate::bounds::{Subject, complaint};
use crate::cases::{AWKWARD, LONG};
use crate::children::in_children;
use crate::gpu::{device, run_case};

const SETTINGS: &[&[(&str, &str)]] =
    &[&[("VGPU_SCHED", "0"), ("VGPU_DEVICE", "rtx4090")], &[("VGPU_SCHED", "1"), ("VGPU_DEVICE", "orin")]];

#[test]
fn operations_err_as_little_as_pytorch() {
    in_children("operations::operations_err_as_little_as_pytorch", SETTINGS, || {
        let Some(mut cuda) = device() else { return };
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
                    Some(reason)
                }
            };
            complaints.extend(complaint.map(|complaint| format!("{case:?}: {complaint}")));
        }
        assert!(complaints.is_empty(), "{} cases:\n{}", complaints.len(), complaints.join("\n"));
    });
}
