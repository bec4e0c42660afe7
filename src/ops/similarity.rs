//! The cosine of every pixel with every label, at twice the size of the maps that it is made of, without the pixels'
//! embeddings (model: head).

use super::{Buf, Operand, Operation, PlanBuilder, need};

/// How a pixel's length is made of its coordinates: √(‖coordinates‖² + rest) / factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    /// The part of the squared norm that no pixel changes.
    pub rest: f32,
    /// What coordinates are multiplied by, so that they are about as large as the features that they are made of.
    pub factor: f32,
}

impl Default for Length {
    fn default() -> Length {
        Length { rest: 0.0, factor: 1.0 }
    }
}

/// Numerators `[b, h, w, labels]` and coordinates `[b, h, w, rank]` → logits `[b, 2h, 2w, labels]`: both interpolated (bilinear,
/// align_corners=True), then numerators over lengths. A pixel whose embedding is zero scores 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    pub numerators: Buf,
    pub coordinates: Buf,
    pub length: Length,
    pub out: Buf,
}

impl PlanBuilder {
    pub fn similarity(&mut self, numerators: Buf, coordinates: Buf, length: Length, out: Buf) {
        self.push(Similarity { numerators, coordinates, length, out });
    }
}

impl Operation for Similarity {
    fn check(&self) -> Result<(), String> {
        let Similarity { numerators, coordinates, out, .. } = self;
        let [b, h, w, labels] = numerators.shape;
        need(coordinates.shape[..3] == [b, h, w], || {
            format!("coordinates {:?} beside {:?}", coordinates.shape, numerators.shape)
        })?;
        need(out.shape == [b, 2 * h, 2 * w, labels], || format!("{:?} becomes {:?}", numerators.shape, out.shape))
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.numerators));
        see(Operand::Read(&mut self.coordinates));
        see(Operand::Write(&mut self.out));
    }

    /// Of a pixel: its coordinates, which are squared and summed up, and its numerators.
    fn flop(&self) -> usize {
        self.out.batch() * self.out.rows() * (10 * self.coordinates.channels() + 9 * self.out.channels())
    }

    fn shapes(&self) -> String {
        let [_, h, w, _] = self.out.shape;
        format!("{} and {} coordinates → {h}×{w}", self.numerators.describe(), self.coordinates.channels())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::Element;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers, Zeros};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, Values};

    pub fn add(all: &mut Cases) {
        let awkward = [
            (1, (1, 1), 1, 1, 0.37, Nothing),
            (1, (5, 7), 3, 17, 0.37, Nothing),
            (2, (1, 9), 40, 33, 0.37, Nan),
            (1, (13, 9), 300, 15, 0.37, Outliers),
            (1, (1, 1), 5, 8, 0.37, Nothing),
            (2, (7, 1), 33, 24, 0.37, Outliers),
            (2, (5, 7), 20, 256, 0.37, Nan),
            (1, (13, 9), 150, 264, 0.37, Nothing),
            (1, (13, 10), 31, 512, 0.0, Outliers),
            (1, (16, 15), 2000, 64, 0.37, Nothing),
            (2, (9, 5), 17, 72, 0.0, Zeros),
        ];
        let made = |(batch, map, labels, rank, rest, plant)| case(batch, map, labels, rank, rest, plant);
        all.awkward.extend(awkward.map(made));
        all.real.push(case(1, (120, 120), 20, 256, 0.37, Nothing));
        all.real.push(case(1, (120, 120), 150, 256, 0.37, Nothing));
    }

    /// What is planted stands in the numerators; zeros in both maps, over a whole neighbourhood.
    fn case(batch: usize, (h, w): Map, labels: usize, rank: usize, rest: f32, plant: Plant) -> Case {
        let zeros = plant == Zeros;
        let mut c = CaseBuilder::new(plant);
        let drawn = move |channels: usize, planted: Plant| {
            move |seeded: &mut crate::ops::cases::Seeded| {
                let mut values = seeded.values(batch * h * w * channels, 1.0);
                planted.add_to(&mut values, [batch, h, w, channels]);
                if zeros {
                    values.chunks_exact_mut(channels).enumerate().for_each(|(i, pixel)| {
                        if i / w % h < 3 && i % w < 3 {
                            pixel.fill(0.0);
                        }
                    });
                }
                Values::F32(values)
            }
        };
        let numerators = c.input_of([batch, h, w, labels], Element::F32, drawn(labels, plant));
        let coordinates = c.input_of([batch, h, w, rank], Element::Activation, drawn(rank, Plant::Nothing));
        let out = c.output([batch, 2 * h, 2 * w, labels], Element::F32);
        let bare = if rest == 0.0 { "-bare" } else { "" };
        let sizes = format!("{batch}x{h}x{w}-{labels}-rank{rank}{bare}");
        c.build(sizes, out, Similarity { numerators, coordinates, length: Length { rest, factor: 0.25 }, out })
    }
}
