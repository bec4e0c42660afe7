//! A transposed convolution whose stride is its kernel: a product, then a pixel shuffle as it is stored.

use super::Cpu;
use super::gemm::{Layout, Patches};
use crate::ops::{self, Epilogue, Gemm, Linear};

impl Cpu {
    pub(super) fn conv_transpose(&mut self, op: &ops::ConvTranspose) {
        let ops::ConvTranspose { x, w, out } = *op;
        let linear = Linear { weight: w.weight, bias: Some(w.bias) };
        let gemm = Gemm { x: x.all(), w: linear, epilogue: Epilogue::NONE, out: out.all() };
        let layout = Layout::Shuffle { w: x.shape[2], s: w.stride, o: out.channels() };
        self.blocked_gemm(&gemm, Patches::rows(&[], x.rows(), w.weight.k), layout);
    }
}
