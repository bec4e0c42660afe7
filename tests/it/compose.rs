//! Linear steps that the engine has multiplied out (model: compose), and the head, against the published steps one after the
//! other in float64.

use lseg_fast::device::Device;
use lseg_fast::device::cpu::Cpu;
use lseg_fast::model::compose;
use lseg_fast::model::config::{Config, LOGIT_SCALE};
use lseg_fast::model::head::{self, Head};
use lseg_fast::model::weights::Loader;
use lseg_fast::ops::{Buf, Element, Linear, PlanBuilder, conv, polyphase};
use testing::cases::reference::{self, Near, Sum, upsample};
use testing::cases::{Map, Seeded, Values, pass};

use crate::rewrites::{DIM, Decoder, EPS, FEATURES, Weights, check, config};

/// A map in float64, `[h, w, c]`: its values, or the sums of their terms' magnitudes.
#[derive(Clone)]
struct Wide {
    map: Map,
    c: usize,
    data: Vec<f64>,
}

/// What a wrong composition of two steps might do.
#[derive(Clone, Copy, PartialEq)]
enum Slip {
    None,
    /// The first step's bias goes on behind the border, where the second pads with zeros.
    BiasBehindTheBorder,
    /// Rows and columns of the transposed convolution change places.
    TurnedTaps,
    /// Its last tap is forgotten.
    LostTap,
}

impl Wide {
    fn pixel(&self, y: isize, x: isize) -> Option<&[f64]> {
        let inside = (0..self.map.0 as isize).contains(&y) && (0..self.map.1 as isize).contains(&x);
        inside.then(|| &self.data[(y as usize * self.map.1 + x as usize) * self.c..][..self.c])
    }

    /// A 1×1 convolution.
    fn linear(&self, w: &[f64], b: &[f64]) -> Wide {
        let pixels = self.data.chunks_exact(self.c);
        let row = |pixel: &[f64], (w, b): (&[f64], &f64)| pixel.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + b;
        let data = pixels.flat_map(|pixel| w.chunks_exact(self.c).zip(b).map(move |wb| row(pixel, wb))).collect();
        Wide { c: b.len(), data, ..*self }
    }

    /// PyTorch's ConvTranspose2d with stride = kernel: every input pixel scatters its values, weighted `[input, output, ky, kx]`.
    fn transposed(&self, w: &[f64], b: &[f64], s: usize, slip: Slip) -> Wide {
        let ((h, width), c) = (self.map, b.len());
        let mut out = Wide { map: (h * s, width * s), c, data: b.repeat(h * width * s * s) };
        for (i, value) in self.data.iter().enumerate() {
            let (y, x, input) = (i / self.c / width, i / self.c % width, i % self.c);
            for (ky, kx) in (0..s).flat_map(|ky| (0..s).map(move |kx| (ky, kx))) {
                if slip == Slip::LostTap && (ky, kx) == (s - 1, s - 1) {
                    continue;
                }
                let (ty, tx) = if slip == Slip::TurnedTaps { (kx, ky) } else { (ky, kx) };
                for output in 0..c {
                    let place = ((y * s + ky) * width * s + x * s + kx) * c + output;
                    out.data[place] += w[((input * c + output) * s + ty) * s + tx] * value;
                }
            }
        }
        out
    }

    /// A 3×3 convolution `[output, input, ky, kx]`, pad 1; `around` is what stands outside of the map.
    fn three(&self, w: &[f64], b: Option<&[f64]>, stride: usize, around: &[f64]) -> Wide {
        let outputs = w.len() / (9 * self.c);
        let map = ((self.map.0 - 1) / stride + 1, (self.map.1 - 1) / stride + 1);
        let mut data = Vec::new();
        for (y, x) in (0..map.0).flat_map(|y| (0..map.1).map(move |x| (y, x))) {
            for output in 0..outputs {
                let mut sum = b.map_or(0.0, |b| b[output]);
                for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
                    let at = [(y, ky), (x, kx)].map(|(at, k)| (at * stride + k) as isize - 1);
                    let pixel = self.pixel(at[0], at[1]).unwrap_or(around);
                    let weights = w[output * self.c * 9 + 3 * ky + kx..].iter().step_by(9);
                    sum += pixel.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
                }
                data.push(sum);
            }
        }
        Wide { map, c: outputs, data }
    }
}

fn magnitudes(values: &[f64]) -> Vec<f64> {
    values.iter().map(|v| v.abs()).collect()
}

/// Weights and bias of a level's steps: `project`, resampling, `layer_rn`.
struct Steps {
    k: usize,
    project: [Vec<f64>; 2],
    resample: Option<[Vec<f64>; 2]>,
    layer_rn: Vec<f64>,
}

impl Steps {
    fn of(weights: &Weights, k: usize) -> Steps {
        let layer = |name: String| ["weight", "bias"].map(|part| weights.to_f64(&format!("{name}.{part}")));
        let root = format!("pretrained.act_postprocess{k}");
        Steps {
            k,
            project: layer(format!("{root}.3")),
            resample: (k != 3).then(|| layer(format!("{root}.4"))),
            layer_rn: weights.to_f64(&format!("scratch.layer{k}_rn.weight")),
        }
    }

    fn magnitudes(&self) -> Steps {
        let both = |pair: &[Vec<f64>; 2]| [magnitudes(&pair[0]), magnitudes(&pair[1])];
        let resample = self.resample.as_ref().map(both);
        Steps { k: self.k, project: both(&self.project), resample, layer_rn: magnitudes(&self.layer_rn) }
    }

    /// One step after the other, as published.
    fn run(&self, readout: &Wide, slip: Slip) -> Wide {
        let around = |bias: &[f64]| {
            if slip == Slip::BiasBehindTheBorder { bias.to_vec() } else { vec![0.0; bias.len()] }
        };
        let projected = readout.linear(&self.project[0], &self.project[1]);
        match (self.k, &self.resample) {
            (4, Some([w, b])) => {
                let halved = projected.three(w, Some(b), 2, &around(&self.project[1]));
                halved.three(&self.layer_rn, None, 1, &vec![0.0; b.len()])
            }
            (_, Some([w, b])) => {
                let larger = projected.transposed(w, b, if self.k == 1 { 4 } else { 2 }, slip);
                larger.three(&self.layer_rn, None, 1, &around(b))
            }
            (_, None) => projected.three(&self.layer_rn, None, 1, &around(&self.project[1])),
        }
    }
}

/// `project`, the resampling and `layer_rn`, one after the other in float64, against what the engine has composed of them: every
/// level, every pixel, borders and corners among them.
#[test]
fn composed_levels_are_their_steps() {
    let decoder = Decoder::run();
    for k in 1..=4 {
        let steps = Steps::of(&decoder.weights, k);
        let largest = steps.magnitudes();
        let (readout, layer_rn) = (&decoder.taps("readout")[4 - k], &decoder.taps("layer_rn")[4 - k]);
        let expected = |slip: Slip| -> Vec<Near> {
            let item = |data: Vec<f64>| {
                let wide = Wide { map: readout.map(), c: DIM, data };
                let terms = Wide { data: magnitudes(&wide.data), ..wide.clone() };
                let (values, terms) = (steps.run(&wide, slip), largest.run(&terms, Slip::None));
                // Each step rounds, and a composed weight does once.
                let bound = |terms: f64| (8.0 + 9.0 * (DIM as f64).sqrt()) * EPS * terms;
                let pairs = values.data.into_iter().zip(terms.data);
                pairs.map(|(value, terms)| Near { value, bound: bound(terms) }).collect::<Vec<_>>()
            };
            readout.items().into_iter().flat_map(item).collect()
        };
        let mut wrong = vec![("a bias behind the border", expected(Slip::BiasBehindTheBorder))];
        if k < 3 {
            wrong.push(("rows and columns that changed places", expected(Slip::TurnedTaps)));
            wrong.push(("a lost tap", expected(Slip::LostTap)));
        }
        check(&format!("level {k}"), &layer_rn.data, &expected(Slip::None), &wrong);
    }
}

/// The largest error of one map against another, by the sums of their terms' magnitudes.
fn error(got: &[f64], expected: &Wide, terms: &Wide) -> f64 {
    assert_eq!(got.len(), expected.data.len());
    let each = got.iter().zip(&expected.data).zip(&terms.data);
    each.map(|((got, expected), terms)| (got - expected).abs() / terms).fold(0.0, f64::max)
}

/// What `compose` multiplies out, itself in float64: the steps to 1e-12, and no slip of them.
#[test]
fn compositions_are_exact_in_float64() {
    let (dim, middle, outputs, map) = (5, 6, 7, (3, 4));
    let mut seeded = Seeded::new(29);
    let mut values = |count: usize| seeded.values(count, 1.0);
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let channels_last = |w: &[f32], inputs: usize| -> Vec<f32> {
        let outputs = w.len() / (9 * inputs);
        let at = |output: usize, tap: usize, input: usize| w[(output * inputs + input) * 9 + tap];
        let rows = (0..outputs).flat_map(|output| (0..9).map(move |tap| (output, tap)));
        rows.flat_map(|(output, tap)| (0..inputs).map(move |input| at(output, tap, input))).collect()
    };
    let hold = |what: &str, got: &[f64], run: &dyn Fn(Slip) -> Wide, terms: &Wide, slips: &[Slip]| {
        let off = error(got, &run(Slip::None), terms);
        assert!(off < 1e-12, "{what}: off by {off} of the terms");
        for (i, slip) in slips.iter().enumerate() {
            assert!(error(got, &run(*slip), terms) > 1e-3, "{what}: slip {i} is not noticed");
        }
    };

    for stride in [2, 3, 4, 8] {
        let [filters, transposed, before] =
            [outputs * middle * 9, dim * middle * stride * stride, middle].map(&mut values);
        let x = Wide { map, c: dim, data: wide(&values(map.0 * map.1 * dim)) };
        let shape = polyphase::Shape { outputs, inputs: dim, stride };
        let rows = channels_last(&filters, middle);
        let composed: Vec<f64> = compose::polyphase(&rows, &transposed, shape, middle);
        let bias = compose::polyphase_borders(&rows, &before, shape);
        let got: Vec<f64> =
            reference::polyphase(&x.data, map, &composed, &bias, shape).iter().map(|n| n.value).collect();
        let [filters, transposed, before] = [&filters, &transposed, &before].map(|v| wide(v));
        let run = |slip: Slip| {
            let around = if slip == Slip::BiasBehindTheBorder { before.clone() } else { vec![0.0; middle] };
            x.transposed(&transposed, &before, stride, slip).three(&filters, None, 1, &around)
        };
        let terms = Wide { data: magnitudes(&x.data), ..x.clone() }
            .transposed(&magnitudes(&transposed), &magnitudes(&before), stride, Slip::None)
            .three(&magnitudes(&filters), None, 1, &vec![0.0; middle]);
        let slips = [Slip::BiasBehindTheBorder, Slip::TurnedTaps, Slip::LostTap];
        hold(&format!("stride {stride}"), &got, &run, &terms, &slips);
    }

    // One row and one column: a patch lies over both ends of the map.
    for (map, stride) in [((3, 4), 1), ((4, 6), 2), ((5, 3), 2), ((1, 4), 1), ((1, 1), 1), ((1, 2), 2)] {
        let [filters, own, linear, before] = [outputs * middle * 9, outputs, middle * dim, middle].map(&mut values);
        let x = Wide { map, c: dim, data: wide(&values(map.0 * map.1 * dim)) };
        let shape = conv::Shape::three(outputs, dim, stride);
        let rows = channels_last(&filters, middle);
        let composed: Vec<f64> = compose::conv_behind_linear(&rows, &linear, shape, middle);
        let bias = compose::conv_borders(&rows, &before, Some(&own));
        let sums = reference::conv(&x.data, map, &composed, shape);
        let out = shape.out(map);
        let border = |at: usize, side: usize| usize::from(at == 0) + 2 * usize::from(at * stride + 1 >= side);
        let with_bias = |(i, sum): (usize, Sum)| {
            let (pixel, output) = (i / outputs, i % outputs);
            let border = border(pixel / out.1, map.0) + 4 * border(pixel % out.1, map.1);
            sum.value + bias[border * outputs + output]
        };
        let got: Vec<f64> = sums.into_iter().enumerate().map(with_bias).collect();
        let [filters, own, linear, before] = [&filters, &own, &linear, &before].map(|v| wide(v));
        let run = |slip: Slip| {
            let around = if slip == Slip::BiasBehindTheBorder { before.clone() } else { vec![0.0; middle] };
            x.linear(&linear, &before).three(&filters, Some(&own), stride, &around)
        };
        let terms = Wide { data: magnitudes(&x.data), ..x.clone() }
            .linear(&magnitudes(&linear), &magnitudes(&before))
            .three(&magnitudes(&filters), Some(&magnitudes(&own)), stride, &vec![0.0; middle]);
        hold(&format!("{map:?} by {stride}"), &got, &run, &terms, &[Slip::BiasBehindTheBorder]);
    }
}

/// Level 1's `out_conv` behind the upsampling, `head1`, then 1/0.07 times the cosine, each by itself in float64; against two products
/// in the space of the features, on a quarter of the pixels.
struct Cosine {
    weights: Weights,
    embed_dim: usize,
    map: Map,
    /// `[h, w, features]`
    refined: Vec<f32>,
    texts: Vec<f32>,
}

/// What a wrong rewrite of the scores might do.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    NormWithoutBias,
    /// By a ten-thousandth.
    Scale,
    Unnormalised,
    /// Cosines are interpolated, not what they are made of.
    Interpolated,
}

impl Cosine {
    fn layer(&self, name: &str) -> [Vec<f64>; 2] {
        ["weight", "bias"].map(|part| self.weights.to_f64(&format!("scratch.{name}.{part}")))
    }

    fn doubled(&self, x: &[f64], channels: usize) -> Vec<f64> {
        upsample(x, self.map, channels).iter().map(|near| near.value).collect()
    }

    /// Embeddings, and what of them is not a bias: of the doubled map, or of the map itself.
    fn embeddings(&self, doubled: bool) -> [Vec<f64>; 2] {
        let ([out, out_bias], [head, head_bias]) = (self.layer("refinenet1.out_conv"), self.layer("head1"));
        let refined: Vec<f64> = self.refined.iter().map(|v| f64::from(*v)).collect();
        let path = if doubled { self.doubled(&refined, FEATURES) } else { refined };
        let path = Wide { map: (1, path.len() / FEATURES), c: FEATURES, data: path };
        let zeros = [&out_bias, &head_bias].map(|b| vec![0.0; b.len()]);
        let embeddings = path.linear(&out, &out_bias).linear(&head, &head_bias).data;
        [embeddings, path.linear(&out, &zeros[0]).linear(&head, &zeros[1]).data]
    }

    fn expected(&self, fault: Fault) -> Vec<Near> {
        let ([out, out_bias], [head, head_bias]) = (self.layer("refinenet1.out_conv"), self.layer("head1"));
        let scale = if fault == Fault::Scale { 1.0001 / 0.07 } else { 1.0 / 0.07 };
        let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        let [embeddings, linear] = self.embeddings(fault != Fault::Interpolated);
        let refined: Vec<f64> = self.refined.iter().map(|v| f64::from(*v)).collect();
        // Either product sums the features and an offset; their terms are no larger than these lengths.
        let longest = refined.chunks_exact(FEATURES).map(length).fold(0.0, f64::max);
        let terms = length(&head) * (length(&out) * longest + length(&out_bias)) + length(&head_bias);
        let mut all = Vec::new();
        for (e, linear) in embeddings.chunks_exact(self.embed_dim).zip(linear.chunks_exact(self.embed_dim)) {
            let norm = length(if fault == Fault::NormWithoutBias { linear } else { e });
            for text in self.texts.chunks_exact(self.embed_dim) {
                let text: Vec<f64> = text.iter().map(|v| f64::from(*v)).collect();
                let unit = if fault == Fault::Unnormalised { 1.0 } else { length(&text) };
                if norm == 0.0 || unit == 0.0 {
                    all.push(Near { value: 0.0, bound: 0.0 });
                    continue;
                }
                let dot: f64 = e.iter().zip(&text).map(|(a, b)| a * b).sum();
                let bound = scale * (4.0 + (FEATURES as f64).sqrt()) * EPS * terms / norm;
                all.push(Near { value: scale * dot / (norm * unit), bound });
            }
        }
        if fault != Fault::Interpolated {
            return all;
        }
        let values: Vec<f64> = all.iter().map(|near| near.value).collect();
        let bound = all.iter().fold(0.0, |a: f64, near| a.max(near.bound));
        let labels = self.texts.len() / self.embed_dim;
        self.doubled(&values, labels).into_iter().map(|value| Near { value, bound }).collect()
    }

    fn run(&self, config: &Config, what: impl Fn(&Head, &mut PlanBuilder, Buf, &Linear) -> Buf) -> Vec<f32> {
        let (_folder, checkpoint) = self.weights.file();
        let mut device = Cpu::new(Some(2)).unwrap();
        let head = Head::load(config, &mut Loader::new(&checkpoint, &mut device)).unwrap();
        let head::Bank { rows, offsets } = head.bank(&self.texts, false, f32::MAX).unwrap();
        let bank = device.bank(offsets.len(), FEATURES, &rows, &offsets).unwrap();
        let bank = device.set_bank(None, &bank).unwrap();
        pass(&mut device, &[&Values::F32(self.refined.clone())], |d| {
            let map = d.buffer("refined", [1, self.map.0, self.map.1, FEATURES], Element::Activation);
            (vec![map], what(&head, d, map, &bank))
        })
    }

    fn engine(&self, config: &Config) -> Vec<f32> {
        self.run(config, |head, d, map, bank| head.scores(d, map, bank))
    }
}

#[test]
fn scores_by_qr_are_scaled_cosines_of_the_embedding() {
    assert!((f64::from(LOGIT_SCALE) * 0.07 - 1.0).abs() < EPS);
    // More, as many and fewer channels in the embedding than features.
    for embed_dim in [28, FEATURES, 9] {
        let config = Config { embed_dim, ..config() };
        let mut seeded = Seeded::new(embed_dim as u64);
        let mut texts = seeded.values(5 * embed_dim, 1.0);
        for (text, length) in texts.chunks_exact_mut(embed_dim).zip([1.0, 1e-3, 300.0, 7.0, 0.0]) {
            text.iter_mut().for_each(|v| *v *= length);
        }
        let map = (4, 10);
        let mut refined = seeded.values(map.0 * map.1 * FEATURES, 2.0);
        // Short ones too: there the bias is most of the embedding.
        refined.chunks_exact_mut(FEATURES).step_by(3).for_each(|pixel| pixel.iter_mut().for_each(|v| *v *= 0.05));
        let cosine = Cosine { weights: Weights::seeded(&config), embed_dim, map, refined, texts };
        let wrong = [
            ("a norm without the bias", cosine.expected(Fault::NormWithoutBias)),
            ("another scale", cosine.expected(Fault::Scale)),
            ("label vectors of their own lengths", cosine.expected(Fault::Unnormalised)),
            ("interpolated cosines", cosine.expected(Fault::Interpolated)),
        ];
        check(&format!("{embed_dim} channels"), &cosine.engine(&config), &cosine.expected(Fault::None), &wrong);
        // The embeddings themselves.
        let largest = cosine.embeddings(true)[0].iter().fold(0.0, |a: f64, v| a.max(v.abs()));
        let near = |value: f64| Near { value, bound: (8.0 + FEATURES as f64) * EPS * largest };
        let [right, without_bias] =
            cosine.embeddings(true).map(|values| values.into_iter().map(near).collect::<Vec<_>>());
        let got = cosine.run(&config, |head, d, map, _| head.embedding(d, map));
        check(&format!("{embed_dim} channels, embeddings"), &got, &right, &[("a forgotten bias", without_bias)]);
    }
}

#[test]
fn a_pixel_whose_embedding_is_zero_scores_0() {
    for embed_dim in [28, FEATURES, 9] {
        let config = Config { embed_dim, ..config() };
        let texts = Seeded::new(embed_dim as u64).values(5 * embed_dim, 1.0);
        // The pixel is the first unit vector, which `out_conv` leaves alone, and the bias takes away what it yields.
        let mut refined = vec![0.0; FEATURES];
        refined[0] = 1.0;
        let mut weights = Weights::seeded(&config);
        let unit = (0..FEATURES * FEATURES).map(|i| if i % (FEATURES + 1) == 0 { 1.0 } else { 0.0 });
        weights.0.get_mut("scratch.refinenet1.out_conv.weight").unwrap().1 = unit.collect();
        weights.0.get_mut("scratch.refinenet1.out_conv.bias").unwrap().1.fill(0.0);
        let bias = weights.0["scratch.head1.weight"].1.iter().step_by(FEATURES).map(|w| -w).collect();
        weights.0.get_mut("scratch.head1.bias").unwrap().1 = bias;
        let cosine = Cosine { weights, embed_dim, map: (1, 1), refined, texts };
        let (got, expected) = (cosine.engine(&config), cosine.expected(Fault::None));
        assert_eq!(got, [0.0; 20], "{embed_dim} channels");
        assert!(expected.iter().all(|score| score.value == 0.0));
    }
}
