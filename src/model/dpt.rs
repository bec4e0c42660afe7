//! The DPT decoder (Ranftl et al., 2103.13413): four maps of the encoder → one map at half the image's size.

use super::config::{Config, ImageEncoder, Resample as Step};
use super::weights::{After, Loader, TensorSpec};
use crate::error::Result;
use crate::ops::{Buf, Element, Epilogue, Func, Linear, PlanBuilder, conv, conv_transpose};

pub struct Dpt {
    /// Fine to coarse; none where the encoder's outputs are maps already (ResNet).
    reassemble: Option<[Reassemble; 4]>,
    /// `[features, 3·3·channels]` each, without bias
    layer_rn: [conv::Weights; 4],
    refinenet: [Refine; 4],
}

/// Tokens → a map at 1/4, 1/8, 1/16 or 1/32.
struct Reassemble {
    /// W₁ of the readout W·[patch, class] = W₁·patch + (W₂·class + b): `[dim, dim]`
    patch: Linear,
    /// W₂ and b: `[dim, dim]`
    class: Linear,
    /// `[channels, dim]`
    project: Linear,
    resample: Resample,
}

enum Resample {
    Up(conv_transpose::Weights),
    Keep,
    Down(conv::Weights),
}

/// A RefineNet block; `out_conv` runs before the upsampling that it commutes with, on a quarter of the pixels.
struct Refine {
    /// Of the skip connection; the coarsest has none.
    res_conf_unit1: Option<ResidualConvUnit>,
    res_conf_unit2: ResidualConvUnit,
    /// `[features, features]`
    out_conv: Linear,
}

/// x + conv2(ReLU(conv1(ReLU(x)))), each with its BatchNorm folded in.
struct ResidualConvUnit {
    conv1: conv::Weights,
    conv2: conv::Weights,
}

impl Dpt {
    pub fn load(config: &Config, from: &mut Loader<'_>) -> Result<Dpt> {
        let (features, channels) = (config.features, config.reassemble);
        let reassemble = match config.image {
            ImageEncoder::Resnet { .. } => None,
            ImageEncoder::Vit { patch, dim, .. } => {
                let steps = Step::for_patch(patch).expect("a checked configuration has a patch that LSeg defines");
                Some(four(|k| Reassemble::load(from, k, steps[k], dim, channels[k]))?)
            }
        };
        let layer_rn = four(|k| {
            let shape = conv::Shape::three(features, channels[k], 1);
            from.conv(&format!("scratch.layer{}_rn", k + 1), shape, After::Nothing)
        })?;
        let refinenet = four(|k| Refine::load(from, k, features))?;
        Ok(Dpt { reassemble, layer_rn, refinenet })
    }

    /// The encoder's four outputs → path 1, `[b, H/2, W/2, features]`; `grid` = (h, w) of the tokens.
    pub fn forward(&self, d: &mut PlanBuilder, hooked: [Buf; 4], grid: (usize, usize)) -> Buf {
        let mut path = None;
        for k in (0..4).rev() {
            d.scope("reassemble", k + 1);
            let map = match &self.reassemble {
                Some(reassemble) => reassemble[k].forward(d, hooked[k], grid),
                None => hooked[k],
            };
            let [b, h, w, _] = map.shape;
            let layer = d.buffer("layer_rn", [b, h, w, self.layer_rn[k].weight.n], Element::Activation);
            d.conv(map, &self.layer_rn[k], false, Epilogue::NONE, layer);
            d.scope("refinenet", k + 1);
            path = Some(self.refinenet[k].forward(d, path, layer, ["path1", "path2", "path3", "path4"][k]));
        }
        path.expect("four levels were refined")
    }
}

fn four<T>(make: impl FnMut(usize) -> Result<T>) -> Result<[T; 4]> {
    let made: Vec<T> = (0..4).map(make).collect::<Result<_>>()?;
    Ok(made.try_into().unwrap_or_else(|_| unreachable!("four were made")))
}

impl Reassemble {
    fn load(from: &mut Loader<'_>, k: usize, step: Step, dim: usize, channels: usize) -> Result<Reassemble> {
        let root = format!("pretrained.act_postprocess{}", k + 1);
        let [weight, bias] = TensorSpec::layer(&format!("{root}.0.project.0"), &[dim, 2 * dim], dim);
        let mut half = |which: usize| {
            from.matrix((dim, dim), [weight.clone()], |[both]| {
                both.chunks_exact(dim).skip(which).step_by(2).flatten().copied().collect()
            })
        };
        let (patch_half, class_half) = (half(0)?, half(1)?);
        let bias = from.vector(bias)?;
        let project = from.conv_as_linear(&format!("{root}.3"), channels, dim)?;
        let name = format!("{root}.4");
        let resample = match step {
            Step::Up(stride) => Resample::Up(from.conv_transpose(&name, channels, stride)?),
            Step::Keep => Resample::Keep,
            Step::Down => Resample::Down(from.conv(&name, conv::Shape::three(channels, channels, 2), After::Bias)?),
        };
        Ok(Reassemble {
            patch: Linear { weight: patch_half, bias: None },
            class: Linear { weight: class_half, bias: Some(bias) },
            project,
            resample,
        })
    }

    fn forward(&self, d: &mut PlanBuilder, tokens: Buf, (h, w): (usize, usize)) -> Buf {
        let (b, dim, channels) = (tokens.batch(), tokens.channels(), self.project.weight.n);
        let class = d.buffer("readout class", [b, 1, 1, dim], Element::F32);
        d.gemm(tokens.class_row(), &self.class, Epilogue::NONE, class.all());
        let readout = d.buffer("readout", [b, h, w, dim], Element::Activation);
        let epilogue = Epilogue::add(class.all()).then(Func::Gelu);
        d.gemm(tokens.patch_rows(), &self.patch, epilogue, readout.all());
        let map = d.buffer("project", [b, h, w, channels], Element::Activation);
        d.gemm(readout.all(), &self.project, Epilogue::NONE, map.all());
        match &self.resample {
            Resample::Keep => map,
            Resample::Up(conv) => {
                let out = d.buffer("resample", [b, h * conv.stride, w * conv.stride, channels], Element::Activation);
                d.conv_transpose(map, conv, out);
                out
            }
            Resample::Down(conv) => {
                let out = d.buffer("resample", [b, h / conv.stride, w / conv.stride, channels], Element::Activation);
                d.conv(map, conv, false, Epilogue::NONE, out);
                out
            }
        }
    }
}

impl Refine {
    fn load(from: &mut Loader<'_>, k: usize, features: usize) -> Result<Refine> {
        let root = format!("scratch.refinenet{}", k + 1);
        Ok(Refine {
            res_conf_unit1: if k == 3 {
                None
            } else {
                Some(ResidualConvUnit::load(from, &format!("{root}.resConfUnit1"), features)?)
            },
            res_conf_unit2: ResidualConvUnit::load(from, &format!("{root}.resConfUnit2"), features)?,
            out_conv: from.conv_as_linear(&format!("{root}.out_conv"), features, features)?,
        })
    }

    /// `layer` is the level's own map; `path` comes from the coarser level (none at the coarsest).
    fn forward(&self, d: &mut PlanBuilder, path: Option<Buf>, layer: Buf, name: &'static str) -> Buf {
        let [b, h, w, features] = layer.shape;
        let merged = match (path, &self.res_conf_unit1) {
            (Some(path), Some(unit)) => unit.forward(d, layer, Some(path)),
            _ => layer,
        };
        let refined = self.res_conf_unit2.forward(d, merged, None);
        let small = d.buffer("out_conv", layer.shape, Element::Activation);
        d.gemm(refined.all(), &self.out_conv, Epilogue::NONE, small.all());
        let out = d.buffer(name, [b, 2 * h, 2 * w, features], Element::Activation);
        d.upsample(small, out);
        out
    }
}

impl ResidualConvUnit {
    fn load(from: &mut Loader<'_>, name: &str, features: usize) -> Result<ResidualConvUnit> {
        let mut conv = |i: usize| {
            let shape = conv::Shape::three(features, features, 1);
            from.conv(&format!("{name}.conv{i}"), shape, After::BatchNorm(&format!("{name}.bn{i}")))
        };
        Ok(ResidualConvUnit { conv1: conv(1)?, conv2: conv(2)? })
    }

    /// unit(x), plus `add`.
    fn forward(&self, d: &mut PlanBuilder, x: Buf, add: Option<Buf>) -> Buf {
        let hidden = d.buffer("rcu", x.shape, Element::Activation);
        d.conv(x, &self.conv1, true, Epilogue::func(Func::Relu), hidden);
        let out = d.buffer("rcu", x.shape, Element::Activation);
        let residual = Epilogue::add(x.all());
        d.conv(hidden, &self.conv2, false, add.map_or(residual, |add| residual.and_add(add.all())), out);
        out
    }
}
