//! What the engine computes in another form than the papers write it, against the papers' form in float64.
//!
//! Bounds are those of testing/src/cases/reference.rs: what float32 sums explain. Beside each right form stand slightly
//! wrong ones, which the bounds must tell from what the engine computed.

use std::collections::BTreeMap;
use std::path::Path;

use lseg_fast::checkpoint::Checkpoint;
use lseg_fast::device::cpu::Cpu;
use lseg_fast::device::{Device, Program};
use lseg_fast::model::config::{Config, HeadBlock, ImageEncoder, TextTower};
use lseg_fast::model::dpt::Dpt;
use lseg_fast::model::required;
use lseg_fast::model::text::Text;
use lseg_fast::model::weights::Loader;
use lseg_fast::ops::{Buf, Element};
use lseg_fast::plan;
use lseg_fast::{DeviceChoice, Engine, Options};
use testing::cases::reference::{Near, Sum, argmax, edges, gelu, upsample};
use testing::cases::{Map, Seeded, Values, pass};

pub const EPS: f64 = f32::EPSILON as f64;

/// The first value that is not what was expected.
fn complaint(got: &[f32], expected: &[Near]) -> Option<String> {
    assert_eq!(got.len(), expected.len());
    let mut pairs = got.iter().zip(expected).enumerate();
    pairs.find(|(_, (got, near))| !near.accepts(f64::from(**got))).map(|(i, (got, near))| {
        let (ratio, value) = ((f64::from(*got) - near.value).abs() / near.bound, near.value);
        format!("value {i} is {got}, not {value}: off by {ratio} bounds")
    })
}

/// `got` is `right` and none of `wrong`.
pub fn check(what: &str, got: &[f32], right: &[Near], wrong: &[(&str, Vec<Near>)]) {
    assert_eq!(complaint(got, right), None, "{what}");
    for (fault, values) in wrong {
        assert!(complaint(got, values).is_some(), "{what}: the bounds do not notice {fault}");
    }
}

/// A network's tensors, written to a file and read by the plain forms.
pub struct Weights(pub BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Weights {
    /// Every tensor that a model of this configuration needs, with values that keep activations at about 1.
    pub fn seeded(config: &Config) -> Weights {
        config.validate().unwrap();
        let mut seeded = Seeded::new(23);
        let tensors = required(config).into_iter().map(|spec| {
            let fan_in: usize = spec.shape[1..].iter().product();
            let scale = if spec.shape.len() > 1 { 1.7 / (fan_in as f32).sqrt() } else { 0.5 };
            let mut values = seeded.values(spec.shape.iter().product(), scale);
            if spec.name.ends_with("running_var") {
                // Small ones too: there BatchNorm's epsilon counts.
                values.iter_mut().for_each(|v| *v = 0.01 + *v * *v);
            }
            (spec.name, (spec.shape, values))
        });
        Weights(tensors.collect())
    }

    pub fn to_f64(&self, name: &str) -> Vec<f64> {
        self.0[name].1.iter().map(|v| f64::from(*v)).collect()
    }

    /// The file, opened; its folder must outlive it.
    pub fn file(&self) -> (tempfile::TempDir, Checkpoint) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let views = self.0.iter().map(|(name, (shape, values))| {
            let bytes = bytemuck::cast_slice(values);
            (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
        });
        safetensors::serialize_to_file(views, None, &path).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        (folder, checkpoint)
    }
}

const BATCH: usize = 2;
const GRID: Map = (2, 4);
pub const DIM: usize = 20;
pub const FEATURES: usize = 24;

/// Odd enough that no two dimensions can be taken for one another.
pub fn config() -> Config {
    Config {
        preset: "custom".to_owned(),
        image: ImageEncoder::Vit { patch: 16, dim: DIM, depth: 4, heads: 1, mlp: 8, grid: 2, hooks: [0, 1, 2, 3] },
        reassemble: [6, 8, 12, 10],
        features: FEATURES,
        text: TextTower { vocab: 600, context: 16, width: 32, layers: 2, heads: 2, mlp: 48 },
        embed_dim: 28,
        head_block: HeadBlock::NONE,
        mean: [0.5; 3],
        std: [0.5; 3],
        default_size: "native".to_owned(),
    }
}

/// Values of a buffer, `[batch, height, width, channels]`.
#[derive(Clone)]
pub struct Values4 {
    shape: [usize; 4],
    pub data: Vec<f32>,
}

impl Values4 {
    fn to_f64(&self) -> Vec<f64> {
        self.data.iter().map(|v| f64::from(*v)).collect()
    }

    pub fn map(&self) -> Map {
        (self.shape[1], self.shape[2])
    }

    /// One batch item after the other.
    pub fn items(&self) -> Vec<Vec<f64>> {
        let len = self.shape[1..].iter().product();
        self.to_f64().chunks_exact(len).map(<[f64]>::to_vec).collect()
    }
}

/// The decoder as the engine runs it on seeded tokens, with what stood in its buffers.
pub struct Decoder {
    pub weights: Weights,
    taps: BTreeMap<&'static str, Vec<Values4>>,
}

const TAPS: [&str; 8] = ["tokens", "readout", "layer_rn", "rcu", "out_conv", "path4", "path3", "path2"];

impl Decoder {
    pub fn run() -> Decoder {
        let config = config();
        let weights = Weights::seeded(&config);
        let (_folder, checkpoint) = weights.file();
        let mut device = Cpu::new(Some(2)).unwrap();
        let dpt = Dpt::load(&config, &mut Loader::new(&checkpoint, &mut device)).unwrap();
        let (plan, ()) = plan::record(4, &TAPS, |d| {
            let tokens = [(); 4].map(|()| d.buffer("tokens", [BATCH, 1, 1 + GRID.0 * GRID.1, DIM], Element::F32));
            dpt.forward(d, tokens, GRID);
        });
        let mut program = device.compile(plan).unwrap();
        let named = |program: &Program, name: &str| program.plan().named(name).collect::<Vec<Buf>>();
        let mut seeded = Seeded::new(5);
        for tokens in named(&program, "tokens") {
            let values = seeded.values(tokens.len(), 2.0);
            device.write(&mut program, tokens, 0, bytemuck::cast_slice(&values)).unwrap();
        }
        device.run(&mut program).unwrap();
        let mut read = |buf: Buf| {
            let mut data = vec![0.0; buf.len()];
            device.read(&program, buf, 0, bytemuck::cast_slice_mut(&mut data)).unwrap();
            Values4 { shape: buf.shape, data }
        };
        let taps =
            TAPS.iter().map(|name| (*name, named(&program, name).into_iter().map(&mut read).collect())).collect();
        Decoder { weights, taps }
    }

    /// The buffers of a name, from level 4 to level 1.
    pub fn taps(&self, name: &str) -> &[Values4] {
        &self.taps[name]
    }
}

/// The readout of DPT, "project": GELU(W·[patch, class] + b), against W₁·patch + (W₂·class + b).
#[test]
fn a_split_readout_is_the_readout_of_both_tokens() {
    let decoder = Decoder::run();
    let readout = |k: usize, order: [usize; 2], class: usize, bias: bool| -> Vec<Near> {
        let name = format!("pretrained.act_postprocess{k}.0.project.0");
        let (w, b) =
            (decoder.weights.to_f64(&format!("{name}.weight")), decoder.weights.to_f64(&format!("{name}.bias")));
        let mut out = Vec::new();
        for item in decoder.taps("tokens")[k - 1].items() {
            let tokens: Vec<&[f64]> = item.chunks_exact(DIM).collect();
            for patch in &tokens[1..] {
                let pair = order.map(|i| [patch, tokens[class]][i]).concat();
                for (row, b) in w.chunks_exact(2 * DIM).zip(&b) {
                    let mut sum = Sum::dot(row.iter().copied(), pair.iter().copied());
                    if bias {
                        sum.add(*b);
                    }
                    let Near { value, bound } = sum.near();
                    out.push(Near { value: gelu(value), bound: 1.13 * bound + 4.0 * EPS * value.abs() });
                }
            }
        }
        out
    };
    for (i, got) in decoder.taps("readout").iter().enumerate() {
        let k = 4 - i;
        let wrong = [
            ("halves that changed places", readout(k, [1, 0], 0, true)),
            ("a patch in the class token's place", readout(k, [0, 1], 1, true)),
            ("a forgotten bias", readout(k, [0, 1], 0, false)),
        ];
        check(&format!("readout {k}"), &got.data, &readout(k, [0, 1], 0, true), &wrong);
    }
    assert_eq!(decoder.taps("readout").len(), 4);
}

/// Where a convolution unit of the decoder stands among the taps: its input and what it yields.
struct Unit<'a> {
    name: String,
    x: &'a Values4,
    hidden: &'a Values4,
    out: &'a Values4,
    /// The coarser path, added to the output.
    path: Option<&'a Values4>,
}

impl Decoder {
    fn units(&self) -> Vec<Unit<'_>> {
        let mut rcu = self.taps("rcu").chunks_exact(2);
        let mut units = Vec::new();
        for k in (1..=4).rev() {
            let mut x = &self.taps("layer_rn")[4 - k];
            for unit in if k == 4 { 2..=2 } else { 1..=2 } {
                let [hidden, out] = rcu.next().unwrap() else { unreachable!("chunks of two") };
                let path = (unit == 1).then(|| &self.taps(["path2", "path3", "path4"][k - 1])[0]);
                units.push(Unit { name: format!("scratch.refinenet{k}.resConfUnit{unit}"), x, hidden, out, path });
                x = out;
            }
        }
        assert!(rcu.next().is_none());
        units
    }

    /// BN(conv(ReLU(x))) in two steps, conv and BatchNorm of number `i` in the unit: sums with all their terms.
    fn conv_then_norm(&self, unit: &str, i: usize, x: &Values4, eps: f64) -> Vec<Sum> {
        let w = self.weights.to_f64(&format!("{unit}.conv{i}.weight"));
        let norm = ["weight", "bias", "running_mean", "running_var"]
            .map(|part| self.weights.to_f64(&format!("{unit}.bn{i}.{part}")));
        let ((h, width), c) = (x.map(), FEATURES);
        let mut out = Vec::new();
        for item in x.items() {
            for (y, column) in (0..h).flat_map(|y| (0..width).map(move |x| (y, x))) {
                for output in 0..c {
                    let [weight, bias, mean, variance] = norm.each_ref().map(|part| part[output]);
                    let mut conv = Sum::default();
                    for (ky, kx) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
                        let (yy, xx) = (y + ky, column + kx);
                        for input in 0..c {
                            let inside = (1..=h).contains(&yy) && (1..=width).contains(&xx);
                            let value = if inside { item[((yy - 1) * width + xx - 1) * c + input] } else { 0.0 };
                            conv.add(w[(output * c + input) * 9 + ky * 3 + kx] * value.max(0.0));
                        }
                    }
                    let scale = weight / (variance + eps).sqrt();
                    out.push(Sum {
                        value: (conv.value - mean) * scale + bias,
                        magnitude: (conv.magnitude + mean.abs()) * scale.abs() + bias.abs(),
                        terms: conv.terms + 2,
                    });
                }
            }
        }
        out
    }

    /// What the two convolutions of a unit yield.
    fn unit(&self, unit: &Unit<'_>, eps: f64) -> [Vec<Near>; 2] {
        // A folded weight has rounded four times before the sum begins: 2 ε more.
        let near = |sum: Sum| Near { bound: sum.near().bound + 2.0 * EPS * sum.magnitude, ..sum.near() };
        let hidden = self.conv_then_norm(&unit.name, 1, unit.x, eps).into_iter().map(|sum| {
            let Near { value, bound } = near(sum);
            Near { value: value.max(0.0), bound }
        });
        let mut out = self.conv_then_norm(&unit.name, 2, unit.hidden, eps);
        for add in [Some(unit.x), unit.path].into_iter().flatten() {
            out.iter_mut().zip(add.to_f64()).for_each(|(sum, add)| sum.add(add));
        }
        [hidden.collect(), out.into_iter().map(near).collect()]
    }
}

#[test]
fn a_folded_batch_norm_is_the_batch_norm_after_the_convolution() {
    let decoder = Decoder::run();
    let units = decoder.units();
    assert_eq!(units.len(), 7);
    for unit in &units {
        let right = decoder.unit(unit, 1e-5);
        let wrong = [1e-6, 2e-5].map(|eps| decoder.unit(unit, eps));
        for (i, got) in [unit.hidden, unit.out].into_iter().enumerate() {
            let wrong = [("an epsilon of 1e-6", wrong[0][i].clone()), ("an epsilon of 2e-5", wrong[1][i].clone())];
            check(&format!("{} conv{}", unit.name, i + 1), &got.data, &right[i], &wrong);
        }
    }
}

/// `out_conv` after the upsampling, as published, against before it.
#[test]
fn out_conv_commutes_with_upsampling() {
    let decoder = Decoder::run();
    let last: BTreeMap<String, &Values4> = decoder.units().into_iter().map(|unit| (unit.name, unit.out)).collect();
    // Level 1's is the head's.
    for k in 2..=4 {
        let refined = last[&format!("scratch.refinenet{k}.resConfUnit2")];
        let name = format!("scratch.refinenet{k}.out_conv");
        let (w, b) =
            (decoder.weights.to_f64(&format!("{name}.weight")), decoder.weights.to_f64(&format!("{name}.bias")));
        let convolved = |pixels: &[f64], bias: f64| -> Vec<Sum> {
            let mut out = Vec::new();
            for pixel in pixels.chunks_exact(FEATURES) {
                for (row, b) in w.chunks_exact(FEATURES).zip(&b) {
                    let mut sum = Sum::dot(row.iter().copied(), pixel.iter().copied());
                    sum.add(bias * b);
                    out.push(sum);
                }
            }
            out
        };
        // The engine interpolates what it has convolved: an error of that is at most the largest of the map's.
        let mut plain = Vec::new();
        let (mut half_pixel, mut no_bias) = (Vec::new(), Vec::new());
        for item in refined.items() {
            let largest = convolved(&item, 1.0).iter().fold(0.0, |a: f64, sum| a.max(sum.magnitude));
            let bound = (8.0 + (FEATURES as f64).sqrt()) * EPS * largest;
            let near = |sums: Vec<Sum>| sums.into_iter().map(move |sum| Near { value: sum.value, bound });
            let doubled: Vec<f64> = upsample(&item, refined.map(), FEATURES).iter().map(|near| near.value).collect();
            plain.extend(near(convolved(&doubled, 1.0)));
            no_bias.extend(near(convolved(&doubled, 0.99)));
            half_pixel.extend(near(convolved(&resize(&item, refined.map(), FEATURES), 1.0)));
        }
        let wrong = [("a hundredth of the bias", no_bias), ("align_corners=False", half_pixel)];
        let path = ["path2", "path3", "path4"][k - 2];
        check(path, &decoder.taps(path)[0].data, &plain, &wrong);
    }
}

/// ×2 bilinear, align_corners=False, of `[h, w, c]`: what the upsampling is not.
fn resize(x: &[f64], (h, w): Map, c: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for (row, column) in (0..2 * h).flat_map(|y| (0..2 * w).map(move |x| (y, x))) {
        let ((y0, y1, ty), (x0, x1, tx)) = (edges(row, h, 2 * h), edges(column, w, 2 * w));
        let across = |y: usize, k: usize| (1.0 - tx) * x[(y * w + x0) * c + k] + tx * x[(y * w + x1) * c + k];
        out.extend((0..c).map(|k| (1.0 - ty) * across(y0, k) + ty * across(y1, k)));
    }
    out
}

/// Both steps in float64, each stored, then the largest; against the fused kernel.
#[test]
fn a_fused_mask_is_the_mask_of_stored_scores() {
    let ((h, w), labels) = ((6, 9), 7);
    let logits = Seeded::new(77).values(h * w * labels, 14.0);
    let logits_f64: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
    // The network's input is 12×18: smaller in both, equal, larger, and one of each.
    for photo in [(5, 7), (12, 18), (31, 40), (9, 50)] {
        let mut device = Cpu::new(Some(2)).unwrap();
        let got = pass(&mut device, &[&Values::F32(logits.clone())], |d| {
            let x = d.buffer("logits", [1, h, w, labels], Element::F32);
            let mask = d.buffer("mask", [1, photo.0, photo.1, 1], Element::of_labels(labels));
            let not_finite = d.buffer("not finite", [1; 4], Element::U32);
            d.argmax(x, mask, None, not_finite);
            (vec![x], mask)
        });
        let got: Vec<u16> = got.into_iter().map(|label| label as u16).collect();
        let expected = argmax(&logits_f64, (h, w), labels, Some(photo));
        assert_eq!(got.len(), expected.len());
        let ties = expected.iter().filter(|allowed| allowed.len() > 1).count();
        assert!(100 * ties <= got.len(), "photo {photo:?}: {ties} ties of {}", got.len());
        let wrong = got.iter().zip(&expected).position(|(label, allowed)| !allowed.contains(label));
        assert_eq!(wrong, None, "photo {photo:?}");
        // One resizing from the logits to the photo is not the same.
        let once = one_step(&logits_f64, (h, w), labels, photo);
        assert_ne!(got, once, "photo {photo:?}: the two steps cannot be told from one");
    }
}

/// The mask by a single resizing, align_corners=False: a wrong rewrite.
fn one_step(logits: &[f64], (h, w): Map, labels: usize, photo: Map) -> Vec<u16> {
    let mut out = Vec::new();
    for (row, column) in (0..photo.0).flat_map(|y| (0..photo.1).map(move |x| (y, x))) {
        let ((y0, y1, ty), (x0, x1, tx)) = (edges(row, h, photo.0), edges(column, w, photo.1));
        let at = |y: usize, x: usize, k: usize| logits[(y * w + x) * labels + k];
        let across = |y: usize, k: usize| (1.0 - tx) * at(y, x0, k) + tx * at(y, x1, k);
        let score = |k: &usize| (1.0 - ty) * across(y0, *k) + ty * across(y1, *k);
        out.push((0..labels).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap() as u16);
    }
    out
}

/// ‖a − b‖ / ‖b‖
fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |v: f64| v * v;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    (difference / b.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
}

/// A text padded to the whole context, as published, against one that is padded little or not at all.
#[test]
fn padding_does_not_change_a_text() {
    let config = config();
    let context = config.text.context;
    let (_folder, checkpoint) = Weights::seeded(&config).file();
    let mut device = Cpu::new(Some(2)).unwrap();
    let text = Text::load(&config, &mut Loader::new(&checkpoint, &mut device)).unwrap();
    let ids = [598, 17, 300, 599];
    let mut encode = |tokens: usize, padding: u32, end: u32| {
        let mut padded = ids.to_vec();
        padded.resize(tokens, padding);
        pass(&mut device, &[&Values::U32(padded), &Values::U32(vec![end])], |d| {
            let io = text.forward(d, 1, tokens);
            (vec![io.ids, io.ends], io.features)
        })
    };
    let whole = encode(context, 0, 3);
    for (tokens, padding) in [(4, 0), (5, 0), (9, 0), (context, 71)] {
        let error = relative(&encode(tokens, padding, 3), &whole);
        assert!(error <= 1e-6, "{tokens} tokens, padded with {padding}: off by {error:e}");
    }
    // The row beside the end token's is another.
    for end in [2, 4] {
        assert!(relative(&encode(context, 0, end), &whole) > 1e-2);
    }
}

#[test]
fn a_long_label_beside_a_short_one_does_not_change_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit16/model.ckpt");
    let features = |labels: &[&str]| {
        let mut engine =
            Engine::load(&path, &Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() })
                .unwrap();
        engine.set_labels(labels).unwrap();
        engine.network().text_features("cat").unwrap()
    };
    let alone = features(&["cat"]);
    let long = "a very long label of many words, that needs most of the context";
    for labels in [["cat", long], [long, "cat"]] {
        let error = relative(&features(&labels), &alone);
        assert!(error <= 1e-6, "{labels:?}: off by {error:e}");
    }
}
