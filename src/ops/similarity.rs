//! The cosine of every pixel with every label, without the pixels' embeddings (model: head).

use super::{Buf, Linear, Operand, Operation, PlanBuilder, need};

/// The label bank and what norms a pixel needs: scores = (A·f + a) / ‖(R·f + c, r)‖.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// A and a: `[labels, features]` and `[labels]`, the logit scale folded in
    pub labels: Linear,
    /// R and c: `[rank, features]` and `[rank]`
    pub norm: Linear,
    /// Row i of R begins with i zeros, so that half of its product need not be computed.
    pub norm_is_upper: bool,
    /// r², the part of the squared norm that no pixel changes
    pub rest: f32,
}

/// Features `[b, h, w, f]` → logits `[b, h, w, labels]`; a pixel whose embedding is zero scores 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    pub x: Buf,
    pub w: Weights,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn similarity(&mut self, x: Buf, w: &Weights, out: Buf) {
        self.push(Similarity { x, w: *w, out });
    }
}

impl Operation for Similarity {
    fn check(&self) -> Result<(), String> {
        let Similarity { x, w: Weights { labels, norm, .. }, out } = self;
        let [b, h, w, features] = x.shape;
        let depths = [labels.weight.k, norm.weight.k];
        need(depths == [features; 2], || format!("depths of {depths:?} for {features} features"))?;
        need(labels.bias.is_some() && norm.bias.is_some(), || "both products have a bias".to_owned())?;
        labels.check()?;
        norm.check()?;
        need(out.shape == [b, h, w, labels.weight.n], || format!("{:?} becomes {:?}", x.shape, out.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        self.w.labels.operands(see);
        self.w.norm.operands(see);
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        let weights = [self.w.labels, self.w.norm].iter().map(|w| w.weight.n * w.weight.k).sum::<usize>();
        2 * self.x.batch() * self.x.rows() * weights
    }

    fn shapes(&self) -> String {
        let (labels, norm) = (self.w.labels.weight, self.w.norm.weight);
        format!("{} · {} labels, norm {}×{}", self.x.describe(), labels.n, norm.n, norm.k)
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::Element;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers, Zeros};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, switches};

    /// R and what is added to both products.
    #[derive(Clone, Copy, PartialEq)]
    enum Norm {
        /// A bias of zeros and no rest, so that a pixel of zeros has no direction.
        Bare(usize),
        Ranked(usize),
        /// As models have it: R is the square, triangular factor of a QR decomposition.
        Upper,
    }

    use Norm::{Bare, Ranked, Upper};

    pub fn add(all: &mut Cases) {
        let awkward = [
            (1, (1, 1), 1, Ranked(1), 1, Nothing),
            (1, (5, 7), 17, Ranked(17), 3, Nothing),
            (1, (13, 9), 33, Ranked(15), 300, Outliers),
            (1, (13, 9), 100, Bare(100), 17, Zeros),
            (1, (5, 7), 257, Ranked(33), 1, Zeros),
            (2, (13, 9), 33, Ranked(33), 5, Nan),
            (1, (15, 15), 64, Ranked(64), 20, Outliers),
            (1, (16, 16), 256, Ranked(256), 5, Nothing),
            (1, (5, 7), 256, Ranked(256), 150, Nan),
            (1, (3, 5), 64, Ranked(64), 2000, Nothing),
            (1, (13, 9), 72, Bare(40), 33, Zeros),
            (1, (13, 10), 72, Ranked(56), 34, Outliers),
            (1, (5, 7), 256, Bare(256), 21, Zeros),
            (1, (13, 9), 264, Ranked(40), 33, Nan),
            (1, (13, 9), 256, Upper, 20, Outliers),
            (1, (9, 16), 64, Upper, 5, Nan),
            (1, (5, 7), 40, Upper, 33, Nothing),
            (1, (1, 1), 8, Ranked(8), 1, Nothing),
        ];
        let made = |(batch, map, features, norm, labels, plant)| case(batch, map, features, norm, labels, plant);
        all.awkward.extend(awkward.map(made));
        all.real.push(case(1, (240, 240), 256, Upper, 20, Nothing));
        all.real.push(case(1, (240, 240), 256, Upper, 150, Nothing));
    }

    fn case(batch: usize, (h, w): Map, features: usize, norm: Norm, labels: usize, plant: Plant) -> Case {
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, h, w, features], Element::Activation, 1.0);
        let scores = c.matrix(labels, features);
        let (rank, bare, upper) = match norm {
            Bare(rank) => (rank, true, false),
            Ranked(rank) => (rank, false, false),
            Upper => (features, false, true),
        };
        let coordinates = if upper { c.upper(rank, features) } else { c.matrix(rank, features) };
        let scale = if bare { 0.0 } else { 1.0 };
        let w_ = Weights {
            labels: Linear { weight: scores, bias: Some(c.vector(labels, scale)) },
            norm: Linear { weight: coordinates, bias: Some(c.vector(rank, scale)) },
            norm_is_upper: upper,
            rest: if bare { 0.0 } else { 0.37 },
        };
        let out = c.output([batch, h, w, labels], Element::F32);
        let on = switches([(bare, "bare"), (upper, "upper")]);
        c.build(format!("{batch}x{h}x{w}x{features}-{labels}-rank{rank}{on}"), out, Similarity { x, w: w_, out })
    }
}
