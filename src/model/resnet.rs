//! The ResNet image encoder (He et al., 1512.03385; bottleneck blocks with the stride on the 3×3, as torchvision's):
//! the outputs of its four stages, at 1/4, 1/8, 1/16 and 1/32, are the result.

use super::config::{ImageEncoder, RESNET_EXPANSION};
use super::input::Input;
use super::weights::{After, Loader};
use crate::error::Result;
use crate::ops::patchify::Normalise;
use crate::ops::{Buf, Element, Epilogue, Func, PlanBuilder, conv};

pub struct Resnet {
    /// `[stem, 7·7·3]`, stride 2
    stem: conv::Weights,
    stages: [Vec<Block>; 4],
}

struct Block {
    /// `[planes, inputs]`
    conv1: conv::Weights,
    /// `[planes, 3·3·planes]`
    conv2: conv::Weights,
    /// `[4·planes, planes]`
    conv3: conv::Weights,
    /// `[4·planes, inputs]`, where the shape changes
    downsample: Option<conv::Weights>,
}

impl Resnet {
    pub fn load(config: &ImageEncoder, from: &mut Loader<'_>) -> Result<Resnet> {
        let &ImageEncoder::Resnet { stem: channels, blocks, planes } = config else {
            unreachable!("the model loads the encoder that its configuration names")
        };
        let shape = conv::Shape { outputs: channels, inputs: 3, kernel: 7, stride: 2, pad: 3 };
        let stem = from.conv("pretrained.layer1.0", shape, After::BatchNorm("pretrained.layer1.1"))?;
        let mut stages: [Vec<Block>; 4] = Default::default();
        let mut inputs = channels;
        for (k, stage) in stages.iter_mut().enumerate() {
            // layer1 also holds the stem (0 conv, 1 norm, 2 ReLU, 3 pool), so its blocks are one level down.
            let root = if k == 0 { "pretrained.layer1.4".into() } else { format!("pretrained.layer{}", k + 1) };
            for j in 0..blocks[k] {
                let stride = if k > 0 && j == 0 { 2 } else { 1 };
                stage.push(Block::load(from, &format!("{root}.{j}"), inputs, planes[k], stride)?);
                inputs = RESNET_EXPANSION * planes[k];
            }
        }
        Ok(Resnet { stem, stages })
    }

    /// Photos, taken as `size` = (H, W) → the stages' maps.
    pub fn forward(&self, d: &mut PlanBuilder, input: &Input, normalise: &Normalise, size: (usize, usize)) -> [Buf; 4] {
        let (b, (h, w), channels) = (input.batch(), size, self.stem.weight.n);
        d.scope("stem", 0);
        let image = d.buffer("image", [b, h, w, 3], Element::Activation);
        input.cut(d, normalise, 1, image);
        let stem = d.buffer("stem", [b, h / 2, w / 2, channels], Element::Activation);
        d.conv(image, &self.stem, false, Epilogue::func(Func::Relu), stem);
        let mut x = d.buffer("pooled", [b, h / 4, w / 4, channels], Element::Activation);
        d.max_pool(stem, x);

        let mut hooked = [x; 4];
        for (k, stage) in self.stages.iter().enumerate() {
            for (j, block) in stage.iter().enumerate() {
                d.scope(["layer1", "layer2", "layer3", "layer4"][k], j);
                let last = j + 1 == stage.len();
                x = block.forward(d, x, if last { ["hook1", "hook2", "hook3", "hook4"][k] } else { "stage" });
            }
            hooked[k] = x;
        }
        hooked
    }
}

impl Block {
    fn load(from: &mut Loader<'_>, name: &str, inputs: usize, planes: usize, stride: usize) -> Result<Block> {
        let outputs = RESNET_EXPANSION * planes;
        let mut conv = |part: &str, bn: &str, shape: conv::Shape| {
            from.conv(&format!("{name}.{part}"), shape, After::BatchNorm(&format!("{name}.{bn}")))
        };
        Ok(Block {
            conv1: conv("conv1", "bn1", conv::Shape::one(planes, inputs, 1))?,
            conv2: conv("conv2", "bn2", conv::Shape::three(planes, planes, stride))?,
            conv3: conv("conv3", "bn3", conv::Shape::one(outputs, planes, 1))?,
            downsample: if stride != 1 || inputs != outputs {
                Some(conv("downsample.0", "downsample.1", conv::Shape::one(outputs, inputs, stride))?)
            } else {
                None
            },
        })
    }

    fn forward(&self, d: &mut PlanBuilder, x: Buf, name: &'static str) -> Buf {
        let [b, h, w, _] = x.shape;
        let (planes, stride) = (self.conv1.weight.n, self.conv2.stride);
        let shape = [b, h / stride, w / stride, self.conv3.weight.n];
        let narrow = d.buffer("conv1", [b, h, w, planes], Element::Activation);
        d.conv(x, &self.conv1, false, Epilogue::func(Func::Relu), narrow);
        let spatial = d.buffer("conv2", [b, shape[1], shape[2], planes], Element::Activation);
        d.conv(narrow, &self.conv2, false, Epilogue::func(Func::Relu), spatial);
        let identity = match &self.downsample {
            None => x,
            Some(conv) => {
                let identity = d.buffer("downsample", shape, Element::Activation);
                d.conv(x, conv, false, Epilogue::NONE, identity);
                identity
            }
        };
        let out = d.buffer(name, shape, Element::Activation);
        d.conv(spatial, &self.conv3, false, Epilogue::add(identity.all()).then(Func::Relu), out);
        out
    }
}
