//! Whole photos in windows on the GPU, against plain PyTorch in float64: at some pixels of one case of each preset, on each kind of
//! network.

use lseg_fast::{DeviceChoice, Engine, Options, WholeOptions};

use crate::golden::LIMITS;
use crate::gpu::device;
use testing::golden::{distance, range};
use testing::protocols::{Case, Expected, cases, engine};

fn on_gpu(network: &'static str) -> Engine {
    engine(network, &Options { device: DeviceChoice::Cuda(Some(0)), ..Options::default() })
}

/// The golden networks' bounds: of the scores' range, of the vectors' lengths. A sum over scales and mirrors has a larger range, in
/// which its error is a smaller part.
fn check(case: &Case, engine: &mut Engine, options: WholeOptions) -> Vec<f32> {
    let Expected { pixels, values, mask } = case.expected();
    let map = case.compute(engine, options);
    let got = map.at(&pixels);
    let error = if mask.is_some() {
        f64::from(distance(&got, &values) / range(&values))
    } else {
        let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v * v)).sum::<f64>().sqrt();
        let differences = &mut got.iter().zip(&values).map(|(got, value)| got - value);
        squares(differences) / squares(&mut values.iter().copied())
    };
    assert!(error < f64::from(LIMITS.logits), "{}: {error}", case.name);
    let Some(labels) = mask else { return map.values };
    let d = case.shape()[0];
    for (([y, x], label), scores) in pixels.iter().zip(labels).zip(values.chunks_exact(d)) {
        let mut sorted = scores.to_vec();
        sorted.sort_by(f32::total_cmp);
        let is_decided = d == 1 || sorted[d - 1] - sorted[d - 2] > 2.0 * LIMITS.logits * range(&values);
        let found = map.mask.as_ref().expect("scores have a mask")[y * map.size.1 + x];
        assert!(!is_decided || usize::from(found) == label, "{}: {found} at {y}, {x}", case.name);
    }
    map.values
}

fn check_network(network: &'static str, names: &[&str]) {
    if device().is_none() {
        return;
    }
    let mut engine = on_gpu(network);
    for name in names {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == *name).expect("it is one of the golden cases");
        assert_eq!(case.network, network);
        check(case, &mut engine, WholeOptions::default());
    }
}

#[test]
fn windows_are_pytorchs_with_a_bottleneck_block() {
    check_network("vit32", &["app_vit32"]);
}

#[test]
fn windows_are_pytorchs_without_a_block() {
    check_network("vit16", &["vlmaps_vit16", "openscene_vit16"]);
}

#[test]
fn windows_are_pytorchs_on_the_resnet() {
    check_network("resnet", &["eval_just_crop", "vlmaps_upright"]);
}

/// Passes of two windows, and of one, from the second of a kind on as graphs: nothing is allocated but at the first of each, and the
/// values are those of passes of one.
#[test]
fn batches_of_windows_change_nothing() {
    if device().is_none() {
        return;
    }
    let (mut engine, cases) = (on_gpu("vit16"), cases());
    let case = cases.iter().find(|case| case.name == "vlmaps_vit16").expect("it is one of the golden cases");
    let one = check(case, &mut engine, WholeOptions { batch: Some(1), ..WholeOptions::default() });
    let before = engine.lane().device_calls();
    let two = check(case, &mut engine, WholeOptions { batch: Some(2), ..WholeOptions::default() });
    assert!(engine.lane().device_calls().launches > before.launches);
    assert!(distance(&one, &two) < 0.01 * range(&one));
}
