//! Sensitivity: each case with one thing changed that a kernel easily forgets, which the bounds of a comparison must notice.

use lseg_fast::ops::Op;

use super::reference::Expected;
use super::{Case, Plant, Prepared, Values};

/// The case with one thing changed, in two ways of which one must be noticed (a ReLU may hide the other). Empty where
/// nothing can be told: for values that drown each other, and for cases that take long.
pub fn changed(case: &Case, prepared: &Prepared) -> Vec<(String, [Prepared; 2])> {
    // Planted logits leave the other keys no weight; one channel is its own mean; one pixel sees one tap; the
    // table of positions is longer than the texts; a small mask passes pixels over; a photo has no pixel to move to.
    let insensitive = match case.op {
        Op::Attention(_) => case.plant == Plant::Outliers,
        // Three levels in four are not looked at.
        Op::Readout(_) => true,
        // The stream knows nothing of the norm's weights.
        Op::GemmNorm(op) => case.out == op.out,
        Op::LayerNorm(op) => op.x.channels() == 1,
        Op::EmbedTokens(_) => true,
        Op::Argmax(op) => op.mask.shape[1] < 2 * op.logits.shape[1],
        Op::Conv(op) => op.x.rows() == 1 && op.w.kernel > 1,
        Op::Polyphase(op) => op.x.shape[1] == 1 || op.x.shape[2] == 1,
        Op::Sample(op) => op.photo.0 == 1,
        Op::FeatureNorms(op) => op.out.shape[1] < 2 * op.x.shape[1],
        Op::ResizeFeatures(op) => op.out.shape[2] < 2 * op.x.shape[1],
        // Counts are of what is planted.
        Op::FormFeatures(op) => case.out == op.not_finite || op.resized && op.size().0 < 2 * op.x.shape[1],
        // The last values of the map are another item's, or not added.
        Op::AddWindow(_) => true,
        _ => false,
    };
    let planted = !matches!(case.plant, Plant::Nothing | Plant::Outliers);
    if insensitive || planted || work(&case.op) > 1_000_000 { Vec::new() } else { broken(&case.op, prepared) }
}

/// Multiply-adds of the float64 loops, about.
fn work(op: &Op) -> usize {
    match op {
        Op::Gemm(_) | Op::GemmNorm(_) | Op::Readout(_) | Op::Attention(_) | Op::Conv(_) | Op::Polyphase(_) => {
            op.flop() / 2
        }
        _ => 0,
    }
}

/// The values as a kernel without any error would store them.
pub fn values(expected: &Expected) -> Vec<f32> {
    match expected {
        Expected::Values(values) => values.iter().map(|near| near.value as f32).collect(),
        Expected::Partly(values) => {
            values.iter().map(|near| near.map_or(f32::from_bits(u32::MAX), |near| near.value as f32)).collect()
        }
        Expected::Choices(choices) => choices.iter().map(|allowed| f32::from(allowed[0])).collect(),
    }
}

fn broken(op: &Op, prepared: &Prepared) -> Vec<(String, [Prepared; 2])> {
    let change = |value: &dyn Fn(&mut Prepared) -> &mut f32| {
        // A mask changes where another label wins.
        let much = if matches!(op, Op::Argmax(_)) { 1000.0 } else { 3.0 };
        [much, -much].map(|by| {
            let mut broken = prepared.clone();
            *value(&mut broken) += by;
            broken
        })
    };
    let mut all = Vec::new();
    // Rows behind those of a gemm are not the call's.
    let unread = |i: usize| i == 0 && matches!(op, Op::Gemm(op) if op.x.first + op.x.count < op.x.buf.rows());
    for (i, input) in prepared.inputs.iter().enumerate().filter(|(i, _)| !unread(*i)) {
        if matches!(input.values, Values::F32(_)) && input.shape[1] * input.shape[2] > 1 {
            all.push((format!("the last value of input {i}"), change(&|p| last_of_input(p, i))));
        }
    }
    for i in 0..prepared.matrices.len() {
        all.push((format!("the last value of matrix {i}"), change(&|p| p.matrices[i].values.last_mut().unwrap())));
    }
    for i in 0..prepared.vectors.len() {
        // Of a table by the border, of no border.
        let count = match op {
            Op::Conv(op) if op.is_bordered() => op.out.channels(),
            _ => prepared.vectors[i].len(),
        };
        all.push((format!("the last value of vector {i}"), change(&|p| &mut p.vectors[i][count - 1])));
    }
    all
}

fn last_of_input(prepared: &mut Prepared, i: usize) -> &mut f32 {
    match &mut prepared.inputs[i].values {
        Values::F32(values) => values.last_mut().unwrap(),
        other => panic!("{other:?} are no float32 values"),
    }
}
