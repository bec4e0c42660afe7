//! A polyphase convolution: for each phase of the output a product (implicit im2col) whose rows go to every stride-th pixel.

use super::epilogue::{Bias, Epilogue};
use super::gemm::{BlockedGemm, Layout, Patches, rows_per_task};
use super::{Cpu, Stored};
use crate::ops::polyphase::BORDERS;
use crate::ops::{self, Func};

impl Cpu {
    /// A task computes all phases of some rows of the input's map, which are whole rows of the output's.
    pub(super) fn polyphase(&mut self, op: &ops::Polyphase) {
        let Stored::Phases(phases) = &*self.weights.matrices[op.w.weight.index] else {
            panic!("the weights of a polyphase convolution are kept phase by phase");
        };
        let (isa, bias, shape) = (self.isa, self.weights.vector(op.w.bias), op.shape());
        let ([_, h, w, c], s, n) = (op.x.shape, shape.stride, shape.outputs);
        let rows = (rows_per_task(h * w, self.workers.threads) / w).max(1);
        self.arena.by_blocks(op.out.all(), rows * s * w * s, |inputs, b, i, out| {
            let x = inputs.item(op.x.all(), b);
            let begin = i * rows * w;
            for ((phase, filters), bias) in phases.iter().enumerate().zip(bias.chunks_exact(BORDERS * n)) {
                let (py, px) = (phase / s, phase % s);
                let windows = [shape.window(py), shape.window(px)];
                let over = [(windows[0], h), (windows[1], w)].map(|(window, side)| window.over(side));
                let pad = windows.map(|window| usize::from(window.is_before));
                let x = Patches { x, h, w, c, kernel: windows[1].count, stride: 1, pad, out_w: w, relu: false };
                let bias = Some(Bias::window(bias, w, over));
                let epilogue = Epilogue { n, bias, add: [None, None], func: Func::Identity };
                let layout = Layout::Strided { begin, width: w, s, offset: (py * w * s + px) * n };
                let gemm = BlockedGemm { x, w: filters, epilogue, layout };
                gemm.rows(isa, begin..begin + out.len() / n / (s * s), out);
            }
        });
    }
}
