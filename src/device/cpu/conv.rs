//! A square convolution: by Winograd's transform where its weights are kept so, else as a product (implicit im2col).

use super::epilogue::{Bias, Epilogue};
use super::gemm::Patches;
use super::{Cpu, Stored, scratch, winograd};
use crate::ops::{self, Gemm, Linear};

/// float32 values of working memory that a task takes.
pub fn work(op: &ops::Conv) -> usize {
    if winograd::suits(op.shape()) { winograd::WORK } else { 0 }
}

impl Cpu {
    pub(super) fn conv(&mut self, op: &ops::Conv) {
        let Stored::Winograd(filters) = &*self.weights.matrices[op.w.weight.index] else { return self.conv_gemm(op) };
        let ([_, h, w, n], bias) = (op.out.shape, self.weights.bias(op.w.bias).map(|values| bias_of(op, values)));
        let (isa, relu, per_task) = (self.isa, op.relu_in, winograd::rows_per_task(h, w, self.workers.threads));
        self.arena.by_blocks(op.out.all(), per_task * w, |inputs, b, i, out| {
            let epilogue = Epilogue::of(&op.epilogue, n, bias, inputs, b);
            let conv = winograd::Conv { x: inputs.item(op.x.all(), b), h, w, relu, filters, epilogue };
            scratch::work(winograd::WORK, |work| winograd::rows(isa, &conv, i * per_task, work, out));
        });
    }

    fn conv_gemm(&mut self, op: &ops::Conv) {
        let ops::Conv { x, w, relu_in: relu, epilogue, out } = *op;
        let ops::conv::Weights { weight, bias, kernel, stride, pad } = w;
        let ([_, h, w, c], out_w) = (x.shape, out.shape[2]);
        let gemm = Gemm { x: x.all(), w: Linear { weight, bias }, epilogue, out: out.all() };
        let patches = Patches { x: &[], h, w, c, kernel, stride, pad: [pad; 2], out_w, relu };
        self.blocked_gemm(&gemm, patches, |values| bias_of(op, values));
    }
}

fn bias_of<'a>(op: &ops::Conv, values: &'a [f32]) -> Bias<'a> {
    if op.is_bordered() { Bias::three(values, op) } else { Bias::plain(values) }
}
