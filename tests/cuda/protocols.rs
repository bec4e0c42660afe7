//! Whole photos in windows on the GPU, against plain PyTorch in float64: at some pixels of one case of each preset, on each kind of
//! network.

use std::time::Instant;

use lseg_fast::image::decode::Photo;
use lseg_fast::protocol::preset::Knobs;
use lseg_fast::{DeviceChoice, Engine, Options, Wanted, WholeOptions};

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

/// These cases of a network, or where LSEG_LONG_TESTS is set all that it has (on the virtual GPU many minutes).
fn check_network(network: &'static str, names: &[&str]) {
    if device().is_none() {
        return;
    }
    let (mut engine, long) = (on_gpu(network), std::env::var_os("LSEG_LONG_TESTS").is_some());
    let mut count = 0;
    for case in cases().iter().filter(|case| case.network == network) {
        if long || names.contains(&&*case.name) {
            let start = Instant::now();
            check(case, &mut engine, WholeOptions::default());
            println!("{}: {:.1} s", case.name, start.elapsed().as_secs_f64());
            count += 1;
        }
    }
    assert!(count >= names.len(), "{count} of the cases {names:?} on {network}");
}

#[test]
fn windows_are_pytorchs_with_a_bottleneck_block() {
    check_network("vit32", &["app_vit32", "lsm_vit32", "eval_one_label"]);
}

#[test]
fn windows_are_pytorchs_without_a_block() {
    check_network("vit16", &["vlmaps_vit16", "openscene_vit16", "minimal_vit16", "eval_150_labels_vit16"]);
}

#[test]
fn windows_are_pytorchs_on_the_resnet() {
    check_network("resnet", &["eval_just_crop", "vlmaps_upright", "gs_sum_flip", "zero_shot_up"]);
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

/// A pass of each number of windows and the rows handed out are launched kernel by kernel once, and from then on as one graph each;
/// the next photo of this size takes those, and nothing is allocated for it. With scores summed up, and with vectors.
#[test]
fn windows_are_one_graph_a_batch_size() {
    if device().is_none() {
        return;
    }
    let mut engine = on_gpu("vit16");
    let protocol = Knobs { crop: Some(64), stride: Some(32), ..Knobs::default() }.protocol().unwrap();
    let (height, width) = (96, 160);
    let photo = || Photo { width, height, rgb: (0..height * width * 3).map(|i| (i * i % 251) as u8).collect() };
    let options = WholeOptions { batch: Some(3), ..WholeOptions::default() };
    for labels in [3, 70] {
        let mut words: Vec<String> = (0..labels).map(|i| format!("thing {i}")).collect();
        engine.set_labels(&words).unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let before = engine.lane().device_calls();
            let results = engine.run_whole(photo(), &protocol, Wanted::MASK, options).unwrap();
            let after = engine.lane().device_calls();
            let mask = results.mask(0).unwrap().to_vec();
            seen.push((after.launches - before.launches, after.graph_launches - before.graph_launches, mask));
            assert!(seen.len() == 1 || after.allocations == before.allocations, "photo {} allocates", seen.len());
        }
        let [(eager, graphs, mask), second, third] = &seen[..] else { panic!("three photos") };
        // Two rows of four windows: of each row a pass of three, and one of one; rows are handed out twice.
        let parts = 6;
        assert_eq!((second.0, second.1, third.0, third.1), (0, parts, 0, parts), "{labels} labels");
        assert!(*eager > 0 && *graphs == parts - 3, "{labels} labels: {graphs} graphs of the first photo");
        assert!(second.2 == *mask && third.2 == *mask, "{labels} labels");
        // As many other words take the same graphs.
        words.reverse();
        engine.set_labels(&words).unwrap();
        let launches = engine.lane().device_calls().launches;
        let results = engine.run_whole(photo(), &protocol, Wanted::MASK, options).unwrap();
        let turned: Vec<u16> = results.mask(0).unwrap().iter().map(|label| labels as u16 - 1 - label).collect();
        assert_eq!(engine.lane().device_calls().launches, launches, "{labels} labels");
        assert!(turned == *mask, "{labels} labels");
    }
}
