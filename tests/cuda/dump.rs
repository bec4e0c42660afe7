//! The cases for half_errors.py: `LSEG_DUMP_CASES=DIR cargo test --test cuda dump`.

use std::fs;
use std::path::Path;

use lseg_fast::ops::{Element, Op};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::bounds::Subject;
use testing::cases::reference::Expected;
use testing::cases::{Case, Values, awkward, long, lowercase};

/// What PyTorch needs beside the tensors, whose shapes say the rest.
fn switches(case: &Case) -> Value {
    match &case.op {
        Op::Patchify(op) => json!({ "patch": op.patch }),
        Op::CutWindows(op) => json!({ "patch": op.patch }),
        Op::AddPositions(op) => json!({ "side": op.side, "grid": op.grid }),
        Op::Gemm(op) => json!({
            "first": op.x.first,
            "rows": op.x.count,
            "to": op.out.first,
            "adds_rows": op.epilogue.add.iter().flatten().all(|add| add.count == op.out.count),
            "func": lowercase(op.epilogue.func),
            "out_is_float": op.out.buf.element == Element::F32,
        }),
        Op::GemmNorm(op) => json!({ "is_norm": case.out == op.normed }),
        Op::Readout(op) => json!({ "level": op.levels.iter().position(|level| level.out == case.out) }),
        Op::Attention(op) => json!({ "heads": op.heads, "causal": op.causal }),
        Op::Conv(op) => json!({
            "kernel": op.w.kernel,
            "stride": op.w.stride,
            "pad": op.w.pad,
            "relu_in": op.relu_in,
            "func": lowercase(op.epilogue.func),
        }),
        Op::Polyphase(op) => json!({ "stride": op.w.stride }),
        Op::Argmax(op) => json!({ "resized": op.resized }),
        Op::Upsample(op) => json!({ "float": op.x.element == Element::F32 }),
        Op::Sample(op) => json!({ "photo": op.photo }),
        Op::Similarity(op) => json!({ "rest": op.length.rest, "factor": op.length.factor }),
        Op::Regularise(op) => json!({
            "bottleneck": op.bottleneck,
            "activation": op.activation.map_or("identity".to_owned(), lowercase),
        }),
        _ => json!({}),
    }
}

fn about(case: &Case) -> Value {
    json!({ "name": case.name, "op": case.op.name(), "out": case.out.shape, "switches": switches(case) })
}

/// Writes every case's inputs and float64 result, and beside them what it is.
#[test]
fn dump_the_cases() {
    let Some(folder) = std::env::var_os("LSEG_DUMP_CASES") else { return };
    for (i, case) in awkward().iter().chain(long()).enumerate() {
        let Subject { prepared, expected, .. } = Subject::of(case);
        let expected: Vec<f64> = match expected {
            Expected::Values(values) => values.iter().map(|near| near.value).collect(),
            Expected::Partly(values) => values.iter().flatten().map(|near| near.value).collect(),
            Expected::Choices(_) => continue,
        };
        let mut tensors =
            vec![("expected".to_owned(), Dtype::F64, vec![expected.len()], bytemuck::cast_slice(&expected))];
        for (i, input) in prepared.inputs.iter().enumerate() {
            let (dtype, bytes): (_, &[u8]) = match &input.values {
                Values::F32(values) => (Dtype::F32, bytemuck::cast_slice(values)),
                Values::U8(values) => (Dtype::U8, values),
                Values::U16(values) => (Dtype::U16, bytemuck::cast_slice(values)),
                Values::U32(values) => (Dtype::U32, bytemuck::cast_slice(values)),
            };
            tensors.push((format!("input{i}"), dtype, input.shape.to_vec(), bytes));
        }
        for (i, matrix) in prepared.matrices.iter().enumerate() {
            let bytes = bytemuck::cast_slice(&matrix.values);
            tensors.push((format!("matrix{i}"), Dtype::F32, vec![matrix.n, matrix.k], bytes));
        }
        for (i, vector) in prepared.vectors.iter().enumerate() {
            tensors.push((format!("vector{i}"), Dtype::F32, vec![vector.len()], bytemuck::cast_slice(vector)));
        }
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape says"))
        });
        let path = Path::new(&folder).join(format!("{i:03}.safetensors"));
        safetensors::serialize_to_file(views, None, &path).expect("the folder can be written");
        fs::write(path.with_extension("json"), about(case).to_string()).expect("the folder can be written");
    }
}
