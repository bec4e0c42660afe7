//! Every operation of the CPU device against obvious loops in float64, on the table of cases: with every instruction
//! set that this machine has and with one thread and three.

use lseg_fast::device::cpu::{Cpu, Isa};
use lseg_fast::ops::conv::{self, Shape};
use lseg_fast::ops::{Func, Op};
use testing::cases::reference::{Expected, Near, expected};
use testing::cases::sensitivity::{changed, values};
use testing::cases::{Case, Plant, Values, awkward, long, numbers, real, run};

/// Where a result leaves what is expected of it, in words.
fn complaint(expected: &Expected, got: &[f32]) -> Option<String> {
    let wrong = |i: usize, near: &Near| {
        let got = f64::from(got[i]);
        let error = (got - near.value).abs();
        (!near.accepts(got)).then(|| format!("value {i} is {got}, not {near:?}: off by {error:e}"))
    };
    match expected {
        Expected::Values(values) => {
            assert_eq!(values.len(), got.len());
            values.iter().enumerate().find_map(|(i, near)| wrong(i, near))
        }
        Expected::Partly(values) => {
            assert_eq!(values.len(), got.len());
            values.iter().enumerate().find_map(|(i, near)| match near {
                Some(near) => wrong(i, near),
                // The bytes that stood there before are all ones.
                None => (got[i].to_bits() != u32::MAX).then(|| format!("value {i} was written")),
            })
        }
        Expected::Choices(choices) => {
            assert_eq!(choices.len(), got.len());
            let pixels = choices.iter().zip(got).enumerate();
            pixels
                .filter(|(_, (allowed, got))| !allowed.iter().any(|label| f32::from(*label) == **got))
                .map(|(i, (allowed, got))| format!("pixel {i} is label {got}, not one of {allowed:?}"))
                .next()
        }
    }
}

fn devices(isa: Isa) -> [Cpu; 2] {
    [1, 3].map(|threads| Cpu::with_isa(Some(threads), isa).unwrap())
}

fn check(cases: &[Case]) {
    let mut devices = [Isa::detect(), Isa::baseline()].map(devices);
    let mut complaints = Vec::new();
    for case in cases {
        let prepared = case.prepare();
        let expected = expected(case, &prepared);
        for (isa, [one, three]) in ["best", "baseline"].iter().zip(&mut devices) {
            let bytes = run(one, case, &prepared).unwrap();
            if let Some(complaint) = complaint(&expected, &numbers(&bytes, case.out.element, 4)) {
                complaints.push(format!("{}, {isa} instructions: {complaint}", case.name));
            }
            if bytes != run(three, case, &prepared).unwrap() {
                complaints.push(format!("{}, {isa} instructions: three threads give other bits than one", case.name));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn operations_equal_float64() {
    check(awkward());
    check(long());
}

/// Weights with float16's values give float64's results, and the bits that float32 weights give: 2⁻³⁰ of them are no
/// float16 values, and 2³⁰ of the inputs make the same products of those.
#[test]
fn weights_of_float16_are_computed_as_float32() {
    let (up, down) = (2f32.powi(30), 2f32.powi(-30));
    let mut devices = [Isa::detect(), Isa::baseline()].map(|isa| Cpu::with_isa(Some(1), isa).unwrap());
    let mut compared = 0;
    for case in awkward().iter().filter(|case| case.plant != Plant::Nan) {
        let mut halves = case.prepare();
        let round = |value: &mut f32| *value = half::f16::from_f32(*value).to_f32();
        halves.matrices.iter_mut().flat_map(|matrix| &mut matrix.values).for_each(round);
        let expected = expected(case, &halves);
        let mut floats = halves.clone();
        floats.matrices.iter_mut().flat_map(|matrix| &mut matrix.values).for_each(|value| *value *= down);
        let scalable = !halves.matrices.is_empty() && !matches!(case.op, Op::EmbedTokens(_));
        // What weights multiply.
        let multiplied = if matches!(case.op, Op::Readout(_)) { floats.inputs.len() } else { 1 };
        for input in floats.inputs.iter_mut().take(if scalable { multiplied } else { 0 }) {
            if let Values::F32(x) = &mut input.values {
                x.iter_mut().for_each(|value| *value *= up);
            }
        }
        for device in &mut devices {
            let bytes = run(device, case, &halves).unwrap();
            assert_eq!(complaint(&expected, &numbers(&bytes, case.out.element, 4)), None, "{}", case.name);
            if scalable {
                assert!(
                    bytes == run(device, case, &floats).unwrap(),
                    "{}: other bits than float32 weights give",
                    case.name
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 60, "{compared}");
}

/// A NaN is seen wherever the plain convolution has it, and nowhere beyond the 4×4 tiles that read its pixel.
#[test]
fn a_nan_stays_near_its_pixel() {
    let (h, w, channels) = (14, 11, 64);
    let around = conv::cases::Around {
        relu_in: true,
        bias: conv::cases::Bias::None,
        adds: 0,
        added: lseg_fast::ops::Element::Activation,
        func: Func::Relu,
    };
    let case = conv::cases::case(1, (h, w), Shape::three(channels, channels, 1), around, Plant::Nothing);
    let mut device = Cpu::new(Some(1)).unwrap();
    let clean = case.prepare();
    let right = numbers(&run(&mut device, &case, &clean).unwrap(), case.out.element, 4);
    for (y, x) in [(0, 0), (3, 4), (6, 6), (13, 10)] {
        let mut prepared = clean.clone();
        if let Values::F32(values) = &mut prepared.inputs[0].values {
            values[(y * w + x) * channels + 5] = f32::NAN;
        }
        let got = numbers(&run(&mut device, &case, &prepared).unwrap(), case.out.element, 4);
        for (i, (got, right)) in got.iter().zip(&right).enumerate() {
            let (row, column) = (i / channels / w, i / channels % w);
            // Tile t reads inputs 4t − 1 .. 4t + 4.
            let read = |at: usize, input: usize| (at / 4 * 4..at / 4 * 4 + 6).contains(&(input + 1));
            if row.abs_diff(y) <= 1 && column.abs_diff(x) <= 1 {
                assert!(got.is_nan(), "NaN at {y}, {x} is not seen at {row}, {column}");
            } else if !(read(row, y) && read(column, x)) {
                assert!(got.to_bits() == right.to_bits(), "NaN at {y}, {x} changes {row}, {column}");
            }
        }
    }
}

/// Minutes of float64 loops: `LSEG_REAL_SHAPES=1 cargo test --release --test it ops::`.
#[test]
fn operations_of_the_real_shapes_equal_float64() {
    if std::env::var_os("LSEG_REAL_SHAPES").is_some() {
        check(real());
    }
}

/// What a kernel easily forgets must be outside the bounds: the last value of each input and weight, a bias, the
/// order of a kernel's taps.
#[test]
fn the_bounds_notice_what_a_kernel_forgets() {
    for case in awkward() {
        let prepared = case.prepare();
        let right = expected(case, &prepared);
        for (what, broken) in changed(case, &prepared) {
            let noticed = broken.iter().any(|broken| complaint(&right, &values(&expected(case, broken))).is_some());
            assert!(noticed, "{}: {what} changes nothing that the bounds notice", case.name);
        }
    }
}
