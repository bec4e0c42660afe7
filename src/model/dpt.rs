//! The DPT decoder (Ranftl et al., 2103.13413): four maps of the encoder → one map at a quarter of the image's size.
//!
//! Linear steps behind each other are one (model: compose): the resampling of levels 1 and 2 and their `layer_rn`; the 1×1 `project`
//! and the 3×3 convolution behind it. Level 1's `out_conv` and the upsampling to half the size belong to the head, which is linear too.

use super::config::{Config, ImageEncoder, Resample as Step};
use super::weights::{After, Loader, TensorSpec};
use crate::error::Result;
use crate::ops::readout::{self, Level};
use crate::ops::{Buf, Element, Epilogue, Func, Linear, PlanBuilder, conv, polyphase};

pub struct Dpt {
    /// Fine to coarse.
    levels: [Reassemble; 4],
    refinenet: [Refine; 4],
}

/// From an output of the encoder to a map of `features` channels at 1/4, 1/8, 1/16 or 1/32.
struct Reassemble {
    /// None where the encoder's outputs are maps already (ResNet).
    readout: Option<readout::Weights>,
    maps: Maps,
}

enum Maps {
    /// `project` `[channels, dim]`, then resampling to a larger size and `layer_rn` as one.
    Up { project: Linear, layer_rn: polyphase::Weights },
    /// `layer_rn` alone, with `project` in it where there is one.
    Keep { layer_rn: conv::Weights },
    /// Resampling to half the size with `project` in it, then `layer_rn`.
    Down { resample: conv::Weights, layer_rn: conv::Weights },
}

/// A RefineNet block; `out_conv` runs before the upsampling that it commutes with, on a quarter of the pixels.
struct Refine {
    /// Of the skip connection; the coarsest has none.
    res_conf_unit1: Option<ResidualConvUnit>,
    res_conf_unit2: ResidualConvUnit,
    /// `[features, features]`; that of the finest is the head's.
    out_conv: Option<Linear>,
}

/// x + conv2(ReLU(conv1(ReLU(x)))), each with its BatchNorm folded in.
struct ResidualConvUnit {
    conv1: conv::Weights,
    conv2: conv::Weights,
}

impl Dpt {
    pub fn load(config: &Config, from: &mut Loader<'_>) -> Result<Dpt> {
        let levels = four(|k| Reassemble::load(config, from, k))?;
        let refinenet = four(|k| Refine::load(from, k, config.features))?;
        Ok(Dpt { levels, refinenet })
    }

    /// The encoder's four outputs → what `refinenet1` refines, before its `out_conv`: `[b, H/4, W/4, features]`; `grid` = (h, w) of
    /// the tokens.
    pub fn forward(&self, d: &mut PlanBuilder, hooked: [Buf; 4], grid: (usize, usize)) -> Buf {
        let maps = self.readout(d, hooked, grid);
        let mut path = None;
        for k in (1..4).rev() {
            let layer = self.level(d, k, maps[k]);
            let refined = self.refinenet[k].refine(d, path, layer);
            path = Some(self.refinenet[k].upsample(d, refined, ["path2", "path3", "path4"][k - 1]));
        }
        let layer = self.level(d, 0, maps[0]);
        self.refinenet[0].refine(d, path, layer)
    }

    /// Tokens → maps; maps are what they are.
    fn readout(&self, d: &mut PlanBuilder, hooked: [Buf; 4], grid: (usize, usize)) -> [Buf; 4] {
        let weights = self.levels.each_ref().map(|level| level.readout);
        let [Some(w1), Some(w2), Some(w3), Some(w4)] = weights else { return hooked };
        d.scope("readout", 0);
        let (batch, dim) = (hooked[0].batch(), hooked[0].channels());
        // Coarse to fine, as they are used.
        let mut levels = [(3, w4), (2, w3), (1, w2), (0, w1)].map(|(k, w)| Level {
            tokens: hooked[k],
            w,
            vector: d.buffer("readout class", [batch, 1, 1, dim], Element::F32),
            out: d.buffer("readout", [batch, grid.0, grid.1, dim], Element::Activation),
        });
        levels.reverse();
        d.readout(levels);
        levels.map(|level| level.out)
    }

    fn level(&self, d: &mut PlanBuilder, k: usize, map: Buf) -> Buf {
        d.scope("reassemble", k + 1);
        let layer = self.levels[k].forward(d, map);
        d.scope("refinenet", k + 1);
        layer
    }
}

fn four<T>(make: impl FnMut(usize) -> Result<T>) -> Result<[T; 4]> {
    let made: Vec<T> = (0..4).map(make).collect::<Result<_>>()?;
    Ok(made.try_into().unwrap_or_else(|_| unreachable!("four were made")))
}

impl Reassemble {
    fn load(config: &Config, from: &mut Loader<'_>, k: usize) -> Result<Reassemble> {
        let (features, channels) = (config.features, config.reassemble[k]);
        let layer_rn = format!("scratch.layer{}_rn", k + 1);
        let three = conv::Shape::three(features, channels, 1);
        let ImageEncoder::Vit { patch, dim, .. } = config.image else {
            let layer_rn = from.conv(&layer_rn, three, After::Nothing)?;
            return Ok(Reassemble { readout: None, maps: Maps::Keep { layer_rn } });
        };
        let root = format!("pretrained.act_postprocess{}", k + 1);
        let readout = Some(load_readout(from, &root, dim)?);
        let (project, resample) = (format!("{root}.3"), format!("{root}.4"));
        let maps = match Step::for_patch(patch).expect("a checked configuration has a patch that LSeg defines")[k] {
            Step::Up(stride) => {
                let project = from.conv_as_linear(&project, channels, dim)?;
                let shape = polyphase::Shape { outputs: features, inputs: channels, stride };
                Maps::Up { project, layer_rn: from.polyphase(&layer_rn, &resample, shape)? }
            }
            Step::Keep => Maps::Keep { layer_rn: from.conv_behind_linear(&layer_rn, false, three, &project, dim)? },
            Step::Down => {
                let shape = conv::Shape::three(channels, channels, 2);
                let resample = from.conv_behind_linear(&resample, true, shape, &project, dim)?;
                Maps::Down { resample, layer_rn: from.conv(&layer_rn, three, After::Nothing)? }
            }
        };
        Ok(Reassemble { readout, maps })
    }

    fn forward(&self, d: &mut PlanBuilder, map: Buf) -> Buf {
        let [b, h, w, _] = map.shape;
        match &self.maps {
            Maps::Up { project, layer_rn } => {
                let projected = d.buffer("project", [b, h, w, project.weight.n], Element::Activation);
                d.gemm(map.all(), project, Epilogue::NONE, projected.all());
                let (s, features) = (layer_rn.stride, layer_rn.outputs());
                let layer = d.buffer("layer_rn", [b, h * s, w * s, features], Element::Activation);
                d.polyphase(projected, layer_rn, layer);
                layer
            }
            Maps::Keep { layer_rn } => convolved(d, map, layer_rn, "layer_rn"),
            Maps::Down { resample, layer_rn } => {
                let halved = convolved(d, map, resample, "resample");
                convolved(d, halved, layer_rn, "layer_rn")
            }
        }
    }
}

/// A 3×3 convolution and nothing else.
fn convolved(d: &mut PlanBuilder, map: Buf, weights: &conv::Weights, name: &'static str) -> Buf {
    let [b, h, w, _] = map.shape;
    let shape = [b, h / weights.stride, w / weights.stride, weights.weight.n];
    let out = d.buffer(name, shape, Element::Activation);
    d.conv(map, weights, false, Epilogue::NONE, out);
    out
}

fn load_readout(from: &mut Loader<'_>, root: &str, dim: usize) -> Result<readout::Weights> {
    let [weight, bias] = TensorSpec::layer(&format!("{root}.0.project.0"), &[dim, 2 * dim], dim);
    let mut half = |which: usize| {
        from.matrix((dim, dim), [weight.clone()], |[both]| {
            both.chunks_exact(dim).skip(which).step_by(2).flatten().copied().collect()
        })
    };
    let (patch, class) = (half(0)?, half(1)?);
    let bias = from.vector(bias)?;
    Ok(readout::Weights { patch, class: Linear { weight: class, bias: Some(bias) } })
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
            out_conv: if k == 0 {
                None
            } else {
                Some(from.conv_as_linear(&format!("{root}.out_conv"), features, features)?)
            },
        })
    }

    /// `layer` is the level's own map; `path` comes from the coarser level (none at the coarsest).
    fn refine(&self, d: &mut PlanBuilder, path: Option<Buf>, layer: Buf) -> Buf {
        let merged = match (path, &self.res_conf_unit1) {
            (Some(path), Some(unit)) => unit.forward(d, layer, Some(path)),
            _ => layer,
        };
        self.res_conf_unit2.forward(d, merged, None)
    }

    fn upsample(&self, d: &mut PlanBuilder, refined: Buf, name: &'static str) -> Buf {
        let [b, h, w, features] = refined.shape;
        let out_conv = self.out_conv.as_ref().expect("the finest level has none, and is not upsampled");
        let small = d.buffer("out_conv", refined.shape, Element::Activation);
        d.gemm(refined.all(), out_conv, Epilogue::NONE, small.all());
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
