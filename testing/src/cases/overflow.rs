//! Sums of squares beyond float32: the device must not take a root of infinity for a length.

use lseg_fast::device::Device;
use lseg_fast::ops::similarity::Length;
use lseg_fast::ops::{Element, Epilogue, Linear, layer_norm};

use super::{Values, pass};

/// A row whose variance overflows, and a pixel whose embedding's length does, beside one that is well.
pub fn check(device: &mut dyn Device) {
    let (weight, bias) = (device.vector(&[1.0; 8]).unwrap(), device.vector(&[0.5; 8]).unwrap());
    let mut rows = vec![1.0f32; 24];
    rows[0] = -1.0;
    rows[8..16].copy_from_slice(&[1e30, -1e30, 1e30, -1e30, 0.0, 0.0, 0.0, 0.0]);
    let got = pass(device, &[&Values::F32(rows)], |d| {
        let x = d.buffer("x", [1, 1, 3, 8], Element::F32);
        let out = d.buffer("out", [1, 1, 3, 8], Element::Activation);
        d.layer_norm(x, &layer_norm::Weights { weight, bias, eps: 1e-6 }, out);
        (vec![x], out)
    });
    let is_nan: Vec<bool> = got.chunks_exact(8).map(|row| row.iter().all(|value| value.is_nan())).collect();
    assert_eq!(is_nan, [false, true, false], "{got:?}");

    let matrix = device.matrix(8, 8, &[1.0; 64]).unwrap();
    for (offset, is_number) in [(1.0, true), (1e30, false)] {
        let linear = Linear { weight: matrix, bias: Some(device.vector(&[offset; 8]).unwrap()) };
        let got = pass(device, &[&Values::F32(vec![1.0; 16])], |d| {
            let x = d.buffer("x", [1, 1, 2, 8], Element::Activation);
            let numerators = d.buffer("numerators", [1, 1, 2, 8], Element::F32);
            d.gemm(x.all(), &linear, Epilogue::NONE, numerators.all());
            let coordinates = d.buffer("coordinates", [1, 1, 2, 8], Element::Activation);
            d.gemm(x.all(), &linear, Epilogue::NONE, coordinates.all());
            let out = d.buffer("out", [1, 2, 4, 8], Element::F32);
            d.similarity(numerators, coordinates, Length::default(), out);
            (vec![x], out)
        });
        assert!(got.iter().all(|score| score.is_finite() == is_number), "an offset of {offset} scores {got:?}");
    }
}
