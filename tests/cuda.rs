//! Every operation of the CUDA device against obvious loops in float64, on the table of cases, in two schedules of the
//! virtual GPU. Without a GPU or the virtual one (`cargo xtask test` has it) the tests say that they are skipped.
//!
//! `LSEG_CASE=gemm` runs the operations with that name alone.

mod cases;

use cases::reference::{Expected, expected};
use cases::{AWKWARD, Case, data, run};
use half::f16;
use lseg_fast::device::cuda::Cuda;
use lseg_fast::device::{Element, Executor};

fn device() -> Option<Cuda> {
    match Cuda::new(0) {
        Ok(cuda) => Some(cuda),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

fn values(expected: &Expected) -> Vec<Option<f64>> {
    match expected {
        Expected::Values(values) => values.iter().map(|near| Some(near.value)).collect(),
        Expected::Partly(values) => values.iter().map(|near| near.map(|near| near.value)).collect(),
        Expected::Choices(_) => Vec::new(),
    }
}

/// Where a result is further from float64 than float16 explains.
fn complaint(expected: &Expected, got: &[f32]) -> Option<String> {
    if let Expected::Choices(choices) = expected {
        let wrong = choices.iter().zip(got).position(|(allowed, got)| !allowed.iter().any(|l| f32::from(*l) == *got));
        return wrong.map(|i| format!("pixel {i} is label {}, not one of {:?}", got[i], choices[i]));
    }
    let expected = values(expected);
    assert_eq!(expected.len(), got.len());
    let largest = expected.iter().flatten().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    expected.iter().zip(got).enumerate().find_map(|(i, (expected, got))| match expected {
        None => (got.to_bits() != u32::MAX && !got.is_nan()).then(|| format!("value {i} was written")),
        Some(value) if value.is_nan() || got.is_nan() => {
            (value.is_nan() != got.is_nan()).then(|| format!("value {i} is {got}, not {value}"))
        }
        Some(value) => {
            let error = (f64::from(*got) - value).abs();
            let bound = value.abs() / 512.0 + largest / 1024.0;
            (error > bound).then(|| format!("value {i} is {got}, not {value}: off by {error:e}, bound {bound:e}"))
        }
    })
}

fn check(cases: &[Case]) {
    let Some(mut device) = device() else { return };
    let only = std::env::var("LSEG_CASE").unwrap_or_default();
    let mut complaints = Vec::new();
    for case in cases.iter().filter(|case| case.op.name().contains(&only)) {
        let mut prepared = data::prepare(case);
        let round = |value: &mut f32| *value = f16::from_f32(*value).to_f32();
        prepared.matrices.iter_mut().flat_map(|matrix| &mut matrix.values).for_each(round);
        for input in prepared.inputs.iter_mut().filter(|input| input.element == Element::Activation) {
            if let cases::Values::F32(values) = &mut input.values {
                values.iter_mut().for_each(round);
            }
        }
        let bytes = match run::run(&mut device, &case.op, &prepared) {
            Ok(bytes) => bytes,
            Err(reason) => {
                complaints.push(format!("{case:?}: {reason}"));
                continue;
            }
        };
        let got = run::numbers(&bytes, prepared.out_element, device.activation_bytes());
        if let Some(complaint) = complaint(&expected(&case.op, &prepared), &got) {
            complaints.push(format!("{case:?}: {complaint}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn operations_equal_float64() {
    check(AWKWARD);
}
