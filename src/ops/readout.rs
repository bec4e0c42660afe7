//! DPT's readout "project" (Ranftl et al., 2103.13413, section 3.1) of the encoder's four outputs: the class token goes into every
//! patch's vector.

use super::{Buf, Element, Epilogue, Func, Gemm, Linear, Matrix, Operand, Operation, PlanBuilder, need};

/// Outputs of the encoder.
pub const LEVELS: usize = 4;

/// Its weights for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// W₁ of W·[patch, class] = W₁·patch + (W₂·class + b): `[d, d]`
    pub patch: Matrix,
    /// W₂ and b: `[d, d]`
    pub class: Linear,
}

/// One of them: `out` = GELU(W₁·patch + vector), vector = W₂·class + b.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// `[b, 1, 1 + h·w, d]`, float32, the class token first
    pub tokens: Buf,
    pub w: Weights,
    /// `[b, 1, 1, d]`, float32
    pub vector: Buf,
    /// `[b, h, w, d]`, activations
    pub out: Buf,
}

/// All of them at once: alone each is too little work for a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readout {
    pub levels: [Level; LEVELS],
}

impl PlanBuilder {
    pub fn readout(&mut self, levels: [Level; LEVELS]) {
        self.push(Readout { levels });
    }
}

impl Level {
    /// The class token's part.
    pub fn class(&self) -> Gemm {
        Gemm { x: self.tokens.class_row(), w: self.w.class, epilogue: Epilogue::NONE, out: self.vector.all() }
    }

    /// The patches', with it.
    pub fn patches(&self) -> Gemm {
        let w = Linear { weight: self.w.patch, bias: None };
        let epilogue = Epilogue::add(self.vector.all()).then(Func::Gelu);
        Gemm { x: self.tokens.patch_rows(), w, epilogue, out: self.out.all() }
    }
}

impl Operation for Readout {
    fn check(&self) -> Result<(), String> {
        for level in &self.levels {
            level.class().check()?;
            level.patches().check()?;
            let elements = [level.tokens, level.vector, level.out].map(|buf| buf.element);
            need(elements == [Element::F32, Element::F32, Element::Activation], || {
                "tokens are float32, what is read out activations".to_owned()
            })?;
            let alike =
                level.tokens.shape == self.levels[0].tokens.shape && level.out.shape == self.levels[0].out.shape;
            need(alike, || "the encoder's outputs have one shape".to_owned())?;
        }
        Ok(())
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        for level in &mut self.levels {
            see(Operand::Read(&mut level.tokens));
            see(Operand::Matrix(&mut level.w.patch));
            level.w.class.operands(see);
            see(Operand::Write(&mut level.vector));
            see(Operand::Write(&mut level.out));
        }
    }

    fn flop(&self) -> usize {
        self.levels.iter().map(|level| level.class().flop() + level.patches().flop()).sum()
    }

    fn shapes(&self) -> String {
        format!("{LEVELS} of {}", self.levels[0].patches().shapes())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map};

    pub fn add(all: &mut Cases) {
        let awkward = [
            (1, (1, 1), 8, Nothing),
            (2, (3, 5), 72, Outliers),
            (1, (12, 11), 136, Nothing),
            (3, (1, 7), 33, Nothing),
            (1, (9, 15), 264, Nan),
        ];
        for (i, (batch, map, dim, plant)) in awkward.into_iter().enumerate() {
            // Each level in turn.
            all.awkward.push(case(batch, map, dim, plant, (i + 3) % LEVELS));
        }
        all.real.push(case(1, (30, 30), 1024, Outliers, 3));
    }

    /// Looked at is one level's map.
    pub fn case(batch: usize, (h, w): Map, d: usize, plant: Plant, level: usize) -> Case {
        let mut c = CaseBuilder::new(plant);
        let levels = [(); LEVELS].map(|()| Level {
            tokens: c.input([batch, 1, 1 + h * w, d], Element::F32, 1.0),
            w: Weights {
                patch: c.matrix(d, d),
                class: Linear { weight: c.matrix(d, d), bias: Some(c.vector(d, 1.0)) },
            },
            vector: c.output([batch, 1, 1, d], Element::F32),
            out: c.output([batch, h, w, d], Element::Activation),
        });
        c.build(format!("{batch}x{h}x{w}x{d}-level{level}"), levels[level].out, Readout { levels })
    }
}
