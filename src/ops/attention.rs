//! Multi-head self-attention.

use super::{Buf, Operand, Operation, PlanBuilder, need};

/// softmax(q·kᵀ·d^-½)·v per head; `qkv` is `[b, 1, t, 3·width]`, `out` `[b, 1, t, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    pub qkv: Buf,
    pub heads: usize,
    /// No token attends to those behind it.
    pub causal: bool,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn attention(&mut self, qkv: Buf, heads: usize, causal: bool, out: Buf) {
        self.push(Attention { qkv, heads, causal, out });
    }
}

impl Attention {
    /// Channels of a head.
    pub fn size(&self) -> usize {
        self.out.channels() / self.heads
    }
}

impl Operation for Attention {
    fn check(&self) -> Result<(), String> {
        let Attention { qkv, heads, out, .. } = self;
        let [b, h, t, width] = out.shape;
        need(qkv.shape == [b, h, t, 3 * width] && h == 1, || {
            format!("{:?} for an output of {:?}", qkv.shape, out.shape)
        })?;
        need(width.is_multiple_of(*heads), || format!("{width} channels in {heads} heads"))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.qkv));
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        let [b, _, t, width] = self.out.shape;
        let pairs = if self.causal { t * (t + 1) / 2 } else { t * t };
        4 * b * pairs * width
    }

    fn shapes(&self) -> String {
        let [b, _, t, _] = self.out.shape;
        format!("{} heads × {t}×{}{}", b * self.heads, self.size(), if self.causal { " causal" } else { "" })
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::Element;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Seeded, Values, switches};

    pub fn add(all: &mut Cases) {
        let awkward = [
            (1, 1, 1, 64, false, Nothing),
            (1, 5, 3, 20, false, Outliers),
            (1, 5, 2, 64, true, Nothing),
            (1, 257, 2, 20, false, Nan),
            (1, 257, 1, 64, true, Outliers),
            (1, 300, 2, 64, false, Outliers),
            (1, 300, 2, 20, true, Nan),
            (2, 77, 2, 7, true, Nothing),
            (2, 145, 3, 20, false, Outliers),
            (1, 64, 1, 64, false, Outliers),
            (1, 129, 50, 64, false, Nan),
            (1, 65, 2, 64, true, Nan),
            (3, 77, 2, 64, true, Nothing),
            (2, 145, 3, 64, false, Outliers),
            (2, 200, 20, 64, false, Outliers),
            // Around the widths of tiles of queries and keys, and of the last one's parts; more tiles than are kept at a time.
            (1, 15, 1, 64, false, Outliers),
            (1, 16, 2, 64, true, Outliers),
            (1, 17, 2, 64, false, Nothing),
            (1, 63, 1, 64, true, Nothing),
            (1, 127, 1, 64, false, Outliers),
            (1, 128, 1, 64, true, Outliers),
            (2, 128, 1, 64, false, Nan),
            (1, 129, 1, 64, true, Outliers),
            (1, 144, 2, 64, false, Nothing),
            (1, 191, 1, 64, true, Nan),
            (1, 192, 1, 64, false, Outliers),
            (1, 193, 1, 64, false, Outliers),
            (1, 193, 2, 64, true, Nothing),
            (1, 901, 1, 64, false, Outliers),
            (1, 901, 1, 64, true, Outliers),
        ];
        let made = |(batch, tokens, heads, size, causal, plant)| case(batch, tokens, heads, size, causal, plant);
        all.awkward.extend(awkward.map(made));
        all.long.push(case(1, 4097, 1, 64, false, Outliers));
        all.real.push(case(1, 901, 16, 64, false, Outliers));
        all.real.push(case(20, 12, 8, 64, true, Nothing));
    }

    pub fn case(batch: usize, tokens: usize, heads: usize, size: usize, causal: bool, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let width = heads * size;
        let qkv = c.input_of([batch, 1, tokens, 3 * width], Element::Activation, move |s: &mut Seeded| {
            let mut qkv = s.values(batch * tokens * 3 * width, 1.0);
            match plant {
                Outliers => plant_large_logits(&mut qkv, width),
                Nan => plant_nan(&mut qkv, width, causal),
                _ => {}
            }
            Values::F32(qkv)
        });
        let out = c.output([batch, 1, tokens, width], Element::Activation);
        let sizes = format!("{batch}x{tokens}-heads{heads}x{size}{}", switches([(causal, "causal")]));
        c.build(sizes, out, Attention { qkv, heads, causal, out })
    }

    /// Two queries and two keys with a large channel each: logits of ±80 among small ones.
    fn plant_large_logits(qkv: &mut [f32], width: usize) {
        let tokens = qkv.len() / (3 * width);
        let size = 80.0f32.sqrt() * 2.0;
        for (token, sign) in [(0, 1.0), (tokens / 3, -1.0), (tokens - 1, 1.0)] {
            for channel in (0..width).step_by(width.min(16)) {
                qkv[token * 3 * width + channel] = size;
                qkv[token * 3 * width + width + channel] = sign * size;
            }
        }
    }

    /// One query in the first head; without a mask also one key in the last.
    fn plant_nan(qkv: &mut [f32], width: usize, causal: bool) {
        qkv[2 * 3 * width] = f32::NAN;
        if !causal {
            qkv[3 * width + 2 * width - 1] = f32::NAN;
        }
    }
}
