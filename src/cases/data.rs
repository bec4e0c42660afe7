//! Seeded values for a case: its inputs, its weights and the shape of its output.

use half::f16;

use super::{Add, Case, ConvShape, Op, Plant, Winner, out_element};
use crate::device::{self, Element, Matrix, Upload, Vector};
use crate::error::Result;

/// Pseudo-random numbers, the same everywhere (Knuth's linear congruential generator).
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }

    /// Evenly in (−scale, scale).
    pub fn value(&mut self, scale: f32) -> f32 {
        scale * (self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0)
    }

    pub fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.value(scale)).collect()
    }
}

/// What the host writes into a buffer.
#[derive(Clone, Debug)]
pub enum Values {
    F32(Vec<f32>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl Values {
    pub fn f32(&self) -> &[f32] {
        match self {
            Values::F32(values) => values,
            other => panic!("{other:?} are no float32 values"),
        }
    }

    pub fn u8(&self) -> &[u8] {
        match self {
            Values::U8(values) => values,
            other => panic!("{other:?} are no bytes"),
        }
    }

    /// A mask's.
    pub fn labels(&self) -> Vec<u16> {
        match self {
            Values::U8(values) => values.iter().copied().map(u16::from).collect(),
            Values::U16(values) => values.clone(),
            other => panic!("{other:?} are no labels"),
        }
    }

    pub fn u32(&self) -> &[u32] {
        match self {
            Values::U32(values) => values,
            other => panic!("{other:?} are no ids"),
        }
    }

    /// As a buffer of `element` has them on a device whose activations take `activation` bytes: 4, or 2 for float16.
    pub fn bytes(&self, element: Element, activation: usize) -> Vec<u8> {
        match self {
            Values::F32(values) if element.bytes(activation) == 2 => {
                let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
                bytemuck::pod_collect_to_vec(&halves)
            }
            Values::F32(values) => bytemuck::pod_collect_to_vec(values),
            Values::U8(values) => values.clone(),
            Values::U16(values) => bytemuck::pod_collect_to_vec(values),
            Values::U32(values) => bytemuck::pod_collect_to_vec(values),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Input {
    pub shape: [usize; 4],
    pub element: Element,
    pub values: Values,
}

/// A weight matrix on the host, `[n, k]`.
#[derive(Clone, Debug)]
pub struct Table {
    pub n: usize,
    pub k: usize,
    pub values: Vec<f32>,
    /// Where it is a convolution's.
    pub filters: Option<device::ConvShape>,
}

impl Table {
    fn upload(&self, device: &mut dyn Upload) -> Result<Matrix> {
        match self.filters {
            Some(shape) => device.filters(shape, &self.values),
            None => device.matrix(self.n, self.k, &self.values),
        }
    }
}

/// Everything that a case needs.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub inputs: Vec<Input>,
    pub matrices: Vec<Table>,
    /// Biases first, in the order of the matrices.
    pub vectors: Vec<Vec<f32>>,
    pub out_shape: [usize; 4],
    pub out_element: Element,
}

/// Handles of a case's weights.
pub struct Weights {
    pub matrices: Vec<Matrix>,
    pub vectors: Vec<Vector>,
}

impl Prepared {
    /// With float16's values in whatever half precision holds as float16: activations, matrices, the biases of products.
    /// What stays float32 there keeps its values.
    pub fn rounded(mut self, op: &Op) -> Prepared {
        let round = |value: &mut f32| *value = f16::from_f32(*value).to_f32();
        self.matrices.iter_mut().flat_map(|matrix| &mut matrix.values).for_each(round);
        for input in self.inputs.iter_mut().filter(|input| input.element == Element::Activation) {
            if let Values::F32(values) = &mut input.values {
                values.iter_mut().for_each(round);
            }
        }
        if matches!(op, Op::Gemm { .. } | Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Similarity { .. }) {
            self.vectors.iter_mut().flatten().for_each(round);
        }
        self
    }

    /// (n, k) of the matrices, lengths of the vectors.
    pub fn shapes(&self) -> (Vec<(usize, usize)>, Vec<usize>) {
        (self.matrices.iter().map(|m| (m.n, m.k)).collect(), self.vectors.iter().map(Vec::len).collect())
    }

    pub fn upload(&self, device: &mut dyn Upload) -> Result<Weights> {
        let matrices = self.matrices.iter().map(|m| m.upload(device)).collect::<Result<_>>()?;
        let vectors = self.vectors.iter().map(|v| device.vector(v)).collect::<Result<_>>()?;
        Ok(Weights { matrices, vectors })
    }

    fn input(&mut self, shape: [usize; 4], element: Element, values: Vec<f32>) {
        self.inputs.push(Input { shape, element, values: Values::F32(values) });
    }

    fn matrix(&mut self, n: usize, k: usize, seeded: &mut Seeded) {
        let values = seeded.values(n * k, 1.7 / (k as f32).sqrt());
        self.matrices.push(Table { n, k, values, filters: None });
    }
}

/// The case's values; the same for the same case.
pub fn prepare(case: &Case) -> Prepared {
    let mut s = Seeded::new(2022);
    let activation = Element::Activation;
    let mut p = Prepared {
        inputs: Vec::new(),
        matrices: Vec::new(),
        vectors: Vec::new(),
        out_shape: [0; 4],
        out_element: out_element(&case.op),
    };
    let count = |shape: [usize; 4]| shape.iter().product::<usize>();
    match case.op {
        Op::Patchify { batch, photo: (h0, w0), grid: (h, w), patch } => {
            let shape = [batch, h0, w0, 3];
            let values = Values::U8((0..count(shape)).map(|_| s.below(256) as u8).collect());
            p.inputs.push(Input { shape, element: Element::U8, values });
            p.out_shape = [batch, h, w, patch * patch * 3];
        }
        Op::AddPositions { batch, side, grid: (h, w), dim } => {
            p.out_shape = [batch, 1, 1 + h * w, dim];
            p.input(p.out_shape, Element::F32, s.values(count(p.out_shape), 1.0));
            p.vectors = vec![s.values(dim, 1.0), s.values((1 + side * side) * dim, 1.0)];
        }
        Op::Gemm { batch, first, rows, behind, to, k, n, x, bias, add, .. } => {
            p.out_shape = [batch, 1, to + rows, n];
            let shape = [batch, 1, first + rows + behind, k];
            p.input(shape, x, s.values(count(shape), 1.0));
            let adds = [Add::None, Add::One, Add::Two].iter().position(|a| *a == add).unwrap_or(0);
            for _ in 0..adds {
                p.input(p.out_shape, Element::F32, s.values(count(p.out_shape), 1.0));
            }
            if add == Add::Row {
                p.input([batch, 1, 1, n], Element::F32, s.values(batch * n, 1.0));
            }
            p.matrix(n, k, &mut s);
            p.vectors.extend(bias.then(|| s.values(n, 1.0)));
        }
        Op::LayerNorm { batch, rows, channels } => {
            p.out_shape = [batch, 1, rows, channels];
            p.input(p.out_shape, Element::F32, s.values(count(p.out_shape), 1.0));
            p.vectors = vec![s.values(channels, 2.0), s.values(channels, 1.0)];
        }
        Op::Attention { batch, tokens, heads, size, .. } => {
            p.out_shape = [batch, 1, tokens, heads * size];
            let mut qkv = s.values(batch * tokens * 3 * heads * size, 1.0);
            if case.plant == Plant::Outliers {
                plant_large_logits(&mut qkv, heads * size);
            }
            p.input([batch, 1, tokens, 3 * heads * size], activation, qkv);
        }
        Op::Conv { batch, map, shape, bias, adds, .. } => {
            let ConvShape { inputs, outputs, kernel, stride, pad } = shape;
            let (h, w) = shape.out(map);
            p.out_shape = [batch, h, w, outputs];
            p.input([batch, map.0, map.1, inputs], activation, s.values(batch * map.0 * map.1 * inputs, 1.0));
            for _ in 0..adds {
                p.input(p.out_shape, activation, s.values(count(p.out_shape), 1.0));
            }
            p.matrix(outputs, kernel * kernel * inputs, &mut s);
            p.matrices[0].filters = Some(device::ConvShape { outputs, inputs, kernel, stride, pad });
            p.vectors.extend(bias.then(|| s.values(outputs, 1.0)));
        }
        Op::ConvTranspose { batch, map: (h, w), inputs, outputs, stride } => {
            p.out_shape = [batch, h * stride, w * stride, outputs];
            p.input([batch, h, w, inputs], activation, s.values(batch * h * w * inputs, 1.0));
            p.matrix(stride * stride * outputs, inputs, &mut s);
            p.vectors.push(s.values(outputs, 1.0).repeat(stride * stride));
        }
        Op::Upsample { batch, map: (h, w), channels } => {
            p.out_shape = [batch, 2 * h, 2 * w, channels];
            p.input([batch, h, w, channels], activation, s.values(batch * h * w * channels, 1.0));
        }
        Op::MaxPool { batch, map: (h, w), channels } => {
            p.out_shape = [batch, h.div_ceil(2), w.div_ceil(2), channels];
            p.input([batch, h, w, channels], activation, s.values(batch * h * w * channels, 1.0));
        }
        Op::EmbedTokens { batch, tokens, width, vocab } => {
            p.out_shape = [batch, 1, tokens, width];
            let ids = Values::U32((0..batch * tokens).map(|i| ((i * 7 + vocab - 1) % vocab) as u32).collect());
            p.inputs.push(Input { shape: [batch, 1, tokens, 1], element: Element::U32, values: ids });
            p.matrix(vocab, width, &mut s);
            p.vectors = vec![s.values((tokens + 2) * width, 1.0)];
        }
        Op::TakeRows { batch, rows, width } => {
            p.out_shape = [batch, 1, 1, width];
            p.input([batch, 1, rows, width], Element::F32, s.values(batch * rows * width, 1.0));
            let index = Values::U32((0..batch).map(|b| ((b + 1) * (rows - 1) / batch) as u32).collect());
            p.inputs.push(Input { shape: [batch, 1, 1, 1], element: Element::U32, values: index });
        }
        Op::Sample { batch, map: (h, w), channels, photo, points } => {
            p.out_shape = [batch, 1, points, channels];
            p.input([batch, h, w, channels], activation, s.values(batch * h * w * channels, 1.0));
            let points = (0..batch).flat_map(|_| scattered(points, photo, &mut s)).collect();
            p.input([batch, 1, p.out_shape[2], 2], Element::F32, points);
        }
        Op::Similarity { batch, map: (h, w), features, rank, labels, offset, upper } => {
            p.out_shape = [batch, h, w, labels];
            p.input([batch, h, w, features], activation, s.values(batch * h * w * features, 1.0));
            p.matrix(labels, features, &mut s);
            p.matrix(rank, features, &mut s);
            if upper {
                let rows = p.matrices[1].values.chunks_exact_mut(features).enumerate();
                rows.for_each(|(i, row)| row.iter_mut().take(i).for_each(|value| *value = 0.0));
            }
            let scale = if offset { 1.0 } else { 0.0 };
            p.vectors = vec![s.values(labels, scale), s.values(rank, scale)];
        }
        Op::Regularise { batch, map: (h, w), labels, .. } => {
            p.out_shape = [batch, h, w, labels];
            p.input(p.out_shape, Element::F32, s.values(count(p.out_shape), 14.0));
            p.vectors = vec![s.values(10, 0.3)];
        }
        Op::UpsampleScores { batch, map: (h, w), labels } => {
            p.out_shape = [batch, labels, 2 * h, 2 * w];
            p.input([batch, h, w, labels], Element::F32, s.values(batch * h * w * labels, 14.0));
        }
        Op::Argmax { batch, map: (h, w), labels, mask, output } => {
            p.out_shape = if output == Winner::NotFinite { [1; 4] } else { [batch, mask.0, mask.1, 1] };
            let mut logits = s.values(batch * h * w * labels, 14.0);
            // Labels 0 and 1 are equal everywhere: 1 must never be taken.
            if labels > 2 {
                logits.chunks_exact_mut(labels).for_each(|pixel| pixel[1] = pixel[0]);
            }
            p.input([batch, h, w, labels], Element::F32, logits);
        }
        Op::Overlay { batch, photo: (h, w), labels } => {
            p.out_shape = [batch, h, w, 3];
            let mut bytes = |count| Values::U8((0..count).map(|_| s.below(256) as u8).collect());
            let (photo, mut palette) = (bytes(count(p.out_shape)), bytes(4 * labels));
            if let Values::U8(palette) = &mut palette {
                // The colours' weight: half of 128 for some, and all of it, and between.
                let weight = [64, 128, 37, 101, 64][labels % 5];
                palette.iter_mut().skip(3).step_by(4).for_each(|byte| *byte = weight);
            }
            let element = Element::of_labels(labels);
            let mask: Vec<u16> = (0..batch * h * w).map(|_| s.below(labels) as u16).collect();
            let mask = match element {
                Element::U8 => Values::U8(mask.into_iter().map(|label| label as u8).collect()),
                _ => Values::U16(mask),
            };
            p.inputs.push(Input { shape: p.out_shape, element: Element::U8, values: photo });
            p.inputs.push(Input { shape: [batch, h, w, 1], element, values: mask });
            p.inputs.push(Input { shape: [1, 1, labels, 4], element: Element::U8, values: palette });
        }
    }
    plant(case, &mut p);
    p
}

/// (x, y) of `count` points: the last pixel's centre, one beyond each edge, a centre inside, then anywhere in the photo
/// and half a pixel around it.
fn scattered(count: usize, (h, w): (usize, usize), s: &mut Seeded) -> Vec<f32> {
    let (h, w) = (h as f32, w as f32);
    let special = [[w - 1.0, h - 1.0], [-0.75, h + 1e6], [w + 3.0, -0.0], [(w / 2.0).floor(), (h / 3.0).floor()]];
    let mut anywhere = |side: f32| (s.value(0.5) + 0.5) * side - 0.5;
    let point = |i: usize| special.get(i).copied().unwrap_or_else(|| [anywhere(w), anywhere(h)]);
    (0..count).flat_map(point).collect()
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

fn plant(case: &Case, p: &mut Prepared) {
    let Some(Input { shape, values: Values::F32(x), .. }) = p.inputs.first_mut() else {
        return;
    };
    let c = shape[3];
    match case.plant {
        Plant::Nothing => {}
        Plant::Outliers if matches!(case.op, Op::Attention { .. }) => {}
        Plant::Outliers => {
            x.chunks_exact_mut(c).for_each(|row| row.iter_mut().skip(c / 3).step_by(97).for_each(|v| *v *= 300.0));
        }
        Plant::Nan => match case.op {
            // One query in the first head; without a mask also one key in the last.
            Op::Attention { heads, size, causal, .. } => {
                x[2 * c] = f32::NAN;
                if !causal {
                    x[c + 2 * heads * size - 1] = f32::NAN;
                }
            }
            // Two labels everywhere: at a single pixel, 0·NaN is a matter of how the interpolation is written.
            Op::Argmax { labels, .. } => {
                x.chunks_exact_mut(c)
                    .for_each(|pixel| pixel[labels / 2..].iter_mut().step_by(2).for_each(|v| *v = f32::NAN));
            }
            _ => x.iter_mut().skip(c / 2).step_by(5 * c + 1).for_each(|v| *v = f32::NAN),
        },
        Plant::Infinite => {
            let first = x.len() / shape[0];
            x[..first].chunks_exact_mut(c).for_each(|row| row[c / 2] = f32::INFINITY);
        }
        Plant::Zeros => x.chunks_exact_mut(c).step_by(3).for_each(|row| row.fill(0.0)),
    }
}
