//! How far float16 may be from float64: at most twice as far as PyTorch's own half precision is on the same inputs.
//!
//! PyTorch's errors stand in `tests/golden/half_errors.json`, made by `half_errors.py`, which says what "half precision"
//! means for each operation. Where PyTorch is exact, or lucky on a few values, the limit is what the stored type and
//! float32 sums explain by themselves: half a unit in the last place of each float16, the bounds of `tests/it/ops.rs`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use lseg_fast::Format;
use lseg_fast::ops::{Element, Op};
use serde::Deserialize;

use testing::cases::reference::{Expected, Near, expected, half_unit};
use testing::cases::sensitivity::{changed, values};
use testing::cases::{Case, Prepared, awkward};

/// A case with inputs that float16 has exactly, and what it must yield.
pub struct Subject {
    pub case: &'static Case,
    pub prepared: Prepared,
    pub expected: Expected,
}

impl Subject {
    pub fn of(case: &'static Case) -> Subject {
        // PyTorch and the device start from the same values.
        let prepared = case.prepare().rounded(&case.op);
        let expected = expected(case, &prepared);
        Subject { case, prepared, expected }
    }
}

/// Errors over all values of an output: the largest and the root of the mean square; the same of errors divided by the
/// value's size plus the output's median size, so that large channels do not hide the others.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Errors {
    pub max: f64,
    pub rms: f64,
    pub relative_max: f64,
    pub relative_rms: f64,
}

impl Errors {
    /// Of (value, error) pairs of finite numbers.
    fn of(pairs: &[(f64, f64)]) -> Errors {
        let mut sizes: Vec<f64> = pairs.iter().map(|(value, _)| value.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let typical = sizes.get(sizes.len() / 2).copied().unwrap_or(0.0);
        let relative = |(value, error): &(f64, f64)| if *error == 0.0 { 0.0 } else { error / (value.abs() + typical) };
        let max = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).fold(0.0, f64::max);
        let rms = |of: &dyn Fn(&(f64, f64)) -> f64| {
            (pairs.iter().map(|pair| of(pair).powi(2)).sum::<f64>() / pairs.len().max(1) as f64).sqrt()
        };
        let absolute = |(_, error): &(f64, f64)| *error;
        Errors { max: max(&absolute), rms: rms(&absolute), relative_max: max(&relative), relative_rms: rms(&relative) }
    }

    fn named(self) -> [(&'static str, f64); 4] {
        let Errors { max, rms, relative_max, relative_rms } = self;
        [("largest", max), ("rms", rms), ("largest relative", relative_max), ("rms relative", relative_rms)]
    }
}

/// The row of the table for this case.
fn pytorch(case: &Case) -> Errors {
    static TABLE: OnceLock<BTreeMap<String, Errors>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let text = include_str!("../golden/half_errors.json");
        serde_json::from_str(text).expect("the table is a map from the cases' names to errors")
    });
    let Case { name, op, .. } = case;
    // From float32 to float32 nothing is half: there float32 alone explains the error. PyTorch has no other photos than RGB.
    let has_halves = op.buffers().iter().any(|buf| buf.element == Element::Activation);
    let is_other_photo = matches!(op, Op::Patchify(op) if op.photo.format != Format::Rgb8);
    let alone = || (!has_halves || is_other_photo).then(Errors::default);
    let found = table.get(name).copied().or_else(alone);
    found.unwrap_or_else(|| panic!("{name} is not in the table: tests/golden/half_errors.py makes it anew"))
}

/// What no device with these types can avoid.
fn floor(near: &Near, element: Element) -> f64 {
    if element == Element::Activation { near.bound + half_unit(near.value) } else { near.bound }
}

/// Where a result leaves what is expected of it, in words.
pub fn complaint(subject: &Subject, got: &[f32]) -> Option<String> {
    let Subject { case, expected, .. } = subject;
    let expected: Vec<Option<&Near>> = match expected {
        Expected::Choices(choices) => {
            let allowed = |(allowed, got): (&Vec<u16>, &f32)| allowed.iter().any(|label| f32::from(*label) == *got);
            let wrong = choices.iter().zip(got).position(|pair| !allowed(pair));
            return wrong.map(|i| format!("pixel {i} is label {}, not one of {:?}", got[i], choices[i]));
        }
        Expected::Values(values) => values.iter().map(Some).collect(),
        Expected::Partly(values) => values.iter().map(Option::as_ref).collect(),
    };
    assert_eq!(expected.len(), got.len());
    let mut pairs = Vec::with_capacity(got.len());
    let mut floors = Vec::with_capacity(got.len());
    for (i, (near, got)) in expected.iter().zip(got).enumerate() {
        // Memory that nothing was written to has all bits set: a NaN.
        let Some(near) = near else {
            if got.is_nan() {
                continue;
            }
            return Some(format!("value {i} was written"));
        };
        let (value, got) = (near.value, f64::from(*got));
        if !value.is_finite() || !got.is_finite() {
            let same = value == got || value.is_nan() && got.is_nan();
            if !same {
                return Some(format!("value {i} is {got}, not {value}"));
            }
            continue;
        }
        pairs.push((value, (got - value).abs()));
        floors.push((value, floor(near, case.out.element)));
    }
    let (errors, pytorch, floors) = (Errors::of(&pairs), pytorch(case), Errors::of(&floors));
    let limits = pytorch.named().into_iter().zip(floors.named());
    for ((what, error), ((_, pytorch), (_, floor))) in errors.named().into_iter().zip(limits) {
        let limit = floor.max(2.0 * pytorch);
        if error > limit {
            let (i, (value, off)) = pairs
                .iter()
                .enumerate()
                .fold((0, (0.0, 0.0)), |a, (i, pair)| if pair.1 > a.1.1 { (i, *pair) } else { a });
            return Some(format!(
                "{what} error {error:.3e}, limit {limit:.3e} (PyTorch {pytorch:.3e}, floor {floor:.3e}); value {i}, which should be \
                 {value}, is off by {off:.3e}"
            ));
        }
    }
    None
}

/// What a kernel easily forgets must be outside the bounds: the last value of each input and weight, a bias.
#[test]
fn the_bounds_notice_what_a_kernel_forgets() {
    let mut unnoticed = Vec::new();
    let mut noticed = 0;
    for case in awkward() {
        let right = Subject::of(case);
        for (what, broken) in changed(case, &right.prepared) {
            let complains = |broken: &Prepared| complaint(&right, &values(&expected(case, broken))).is_some();
            if broken.iter().any(complains) {
                noticed += 1;
            } else {
                unnoticed.push(format!("{}: {what}", case.name));
            }
        }
    }
    assert!(unnoticed.is_empty(), "changes nothing that the bounds notice:\n{}", unnoticed.join("\n"));
    assert!(noticed > 150, "{noticed}");
}
