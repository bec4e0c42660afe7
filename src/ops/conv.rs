//! A square convolution with its epilogue.

use super::{Buf, Epilogue, Matrix, Operand, Operation, PlanBuilder, Vector, need};

/// Its hyper-parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub outputs: usize,
    pub inputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

impl Shape {
    /// 3×3, pad 1.
    pub const fn three(outputs: usize, inputs: usize, stride: usize) -> Self {
        Shape { outputs, inputs, kernel: 3, stride, pad: 1 }
    }

    /// 1×1.
    pub const fn one(outputs: usize, inputs: usize, stride: usize) -> Self {
        Shape { outputs, inputs, kernel: 1, stride, pad: 0 }
    }

    /// The output's (height, width).
    pub fn out(self, (h, w): (usize, usize)) -> (usize, usize) {
        let side = |side: usize| (side + 2 * self.pad).saturating_sub(self.kernel) / self.stride + 1;
        (side(h), side(w))
    }
}

/// The ways in which a 3×3 patch can lie at the map's border: 1, where its first row lies outside; 2, its last; 4, its first
/// column; 8, its last.
pub const BORDERS: usize = 16;

/// Its weights, as a matrix over (ky, kx, input channel).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// `[outputs, kernel·kernel·inputs]`
    pub weight: Matrix,
    /// `[outputs]`; or `[BORDERS, outputs]`, where a constant behind the input, which ends at the map's border, is folded in.
    pub bias: Option<Vector>,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

/// out = epilogue(conv(x) + b), where x passes a ReLU first if `relu_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// `[b, h, w, inputs]`
    pub x: Buf,
    pub w: Weights,
    pub relu_in: bool,
    pub epilogue: Epilogue,
    /// `[b, h', w', outputs]`
    pub out: Buf,
}

impl PlanBuilder {
    pub fn conv(&mut self, x: Buf, w: &Weights, relu_in: bool, epilogue: Epilogue, out: Buf) {
        self.push(Conv { x, w: *w, relu_in, epilogue, out });
    }
}

impl Conv {
    /// Whether the bias depends on the border.
    pub fn is_bordered(&self) -> bool {
        self.w.bias.is_some_and(|bias| bias.len != self.w.weight.n)
    }

    /// The output's last row and last column, where their 3×3 patches reach over the end of the map: a stride may leave it out.
    pub fn over_the_end(&self) -> [Option<usize>; 2] {
        [1, 2].map(|axis| {
            let last = self.out.shape[axis] - 1;
            (last * self.w.stride + 1 == self.x.shape[axis]).then_some(last)
        })
    }

    pub fn shape(&self) -> Shape {
        let Weights { weight, kernel, stride, pad, .. } = self.w;
        Shape { outputs: weight.n, inputs: self.x.channels(), kernel, stride, pad }
    }
}

impl Operation for Conv {
    fn check(&self) -> Result<(), String> {
        let (Conv { x, w, epilogue, out, .. }, shape) = (self, self.shape());
        let (h, width) = shape.out((x.shape[1], x.shape[2]));
        need(w.weight.k == w.kernel * w.kernel * x.channels(), || {
            format!("{} weights an output for {} channels", w.weight.k, x.channels())
        })?;
        need(out.shape == [x.batch(), h, width, w.weight.n], || format!("{:?} becomes {:?}", x.shape, out.shape))?;
        let is_three = (w.kernel, w.pad) == (3, 1);
        let fits = |len| len == w.weight.n || is_three && len == BORDERS * w.weight.n;
        need(w.bias.is_none_or(|bias| fits(bias.len)), || {
            "a bias has a value an output, and of 3×3 filters one a border".to_owned()
        })?;
        let whole = out.batch() * out.rows();
        let fits =
            epilogue.add.iter().flatten().all(|add| add.all_count() == whole && add.buf.channels() == w.weight.n);
        need(fits, || "added maps have the output's shape".to_owned())
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x));
        see(Operand::Matrix(&mut self.w.weight));
        if let Some(bias) = &mut self.w.bias {
            see(Operand::Vector(bias));
        }
        self.epilogue.operands(see);
        see(Operand::Write(&mut self.out));
    }

    fn flop(&self) -> usize {
        2 * self.out.batch() * self.out.rows() * self.w.weight.n * self.w.weight.k
    }

    fn shapes(&self) -> String {
        let Weights { kernel, stride, .. } = self.w;
        let stride = if stride == 1 { String::new() } else { format!(" stride {stride}") };
        format!("{0} {kernel}×{kernel}{stride} → {1}", self.x.describe(), self.out.describe())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers};
    use crate::ops::cases::{Case, CaseBuilder, Cases, Map, lowercase, switches};
    use crate::ops::{Element, Func};

    #[derive(Clone, Copy, PartialEq)]
    pub enum Bias {
        None,
        Plain,
        Bordered,
    }

    /// What stands around the product.
    #[derive(Clone, Copy)]
    pub struct Around {
        pub relu_in: bool,
        pub bias: Bias,
        pub adds: usize,
        /// What they are.
        pub added: Element,
        pub func: Func,
    }

    const NOTHING: Around =
        Around { relu_in: false, bias: Bias::None, adds: 0, added: Element::Activation, func: Func::Identity };

    /// As in a residual unit.
    fn unit(adds: usize, func: Func) -> Around {
        Around { relu_in: true, bias: Bias::Plain, adds, func, ..NOTHING }
    }

    /// A map of the same size, where the kernel's side is odd.
    fn same(outputs: usize, inputs: usize, kernel: usize) -> Shape {
        Shape { outputs, inputs, kernel, stride: 1, pad: kernel / 2 }
    }

    /// 7×7, of the ResNet's stem.
    fn stem(outputs: usize) -> Shape {
        Shape { outputs, inputs: 3, kernel: 7, stride: 2, pad: 3 }
    }

    pub fn add(all: &mut Cases) {
        let (one, three) = (Shape::one, Shape::three);
        let awkward = [
            (1, (1, 1), three(1, 1, 1), NOTHING, Nothing),
            (1, (1, 1), three(33, 17, 2), NOTHING, Nothing),
            (1, (5, 7), one(17, 15, 1), NOTHING, Nothing),
            (1, (5, 7), one(3, 33, 2), NOTHING, Outliers),
            (1, (13, 9), three(17, 100, 1), NOTHING, Outliers),
            (1, (13, 9), three(100, 33, 2), NOTHING, Nan),
            (1, (13, 9), stem(15), NOTHING, Nothing),
            (1, (34, 21), stem(64), NOTHING, Nothing),
            (1, (5, 7), three(17, 17, 1), unit(0, Func::Relu), Nan),
            (2, (13, 9), three(33, 33, 1), unit(1, Func::Identity), Outliers),
            (2, (5, 7), three(15, 15, 1), unit(2, Func::Identity), Nan),
            (1, (13, 9), one(15, 257, 1), unit(1, Func::Relu), Nothing),
            (2, (13, 9), one(33, 17, 2), unit(2, Func::Relu), Nothing),
            (1, (1, 1), three(1, 300, 1), unit(2, Func::Gelu), Nothing),
            // Wide enough for Winograd's tiles: part of one, one, several; more than a task takes at a time, twice over.
            (2, (1, 1), three(64, 64, 1), unit(1, Func::Gelu), Nothing),
            (1, (4, 3), three(64, 64, 1), NOTHING, Nothing),
            (2, (5, 7), three(81, 65, 1), unit(2, Func::Relu), Outliers),
            (1, (13, 9), three(67, 300, 1), unit(1, Func::Identity), Outliers),
            (1, (9, 130), three(64, 64, 1), NOTHING, Nothing),
            // Whole chunks of eight channels.
            (1, (1, 1), three(8, 8, 1), NOTHING, Nothing),
            (1, (13, 9), three(136, 72, 2), NOTHING, Outliers),
            (1, (17, 33), three(72, 64, 1), NOTHING, Nothing),
            (1, (13, 9), one(264, 72, 1), NOTHING, Nan),
            (1, (13, 9), one(72, 136, 2), NOTHING, Nothing),
            // Tiles of 128×256 where many quick multiprocessors ask one cache.
            (1, (100, 129), three(248, 16, 1), NOTHING, Nothing),
            (1, (100, 129), three(248, 16, 1), unit(1, Func::Relu), Nothing),
            // Large tiles where there are few multiprocessors.
            (1, (39, 41), three(136, 8, 1), NOTHING, Nothing),
            (1, (23, 33), three(384, 8, 1), unit(2, Func::Identity), Outliers),
            (1, (41, 50), three(136, 8, 1), unit(1, Func::Relu), Outliers),
            (2, (13, 9), three(72, 72, 1), unit(2, Func::Identity), Outliers),
            (1, (15, 15), three(56, 264, 1), unit(1, Func::Identity), Nan),
            (2, (5, 7), three(64, 64, 1), unit(0, Func::Relu), Nothing),
            (1, (13, 9), one(256, 64, 1), unit(1, Func::Relu), Nothing),
        ];
        all.awkward.extend(awkward.map(|(batch, map, shape, around, plant)| case(batch, map, shape, around, plant)));
        let bordered = Around { bias: Bias::Bordered, ..NOTHING };
        let awkward = [
            (1, (1, 1), three(24, 8, 1), bordered, Nothing),
            (2, (1, 5), three(17, 16, 1), Around { func: Func::Gelu, ..bordered }, Nan),
            (2, (5, 7), three(33, 24, 2), bordered, Outliers),
            (1, (6, 4), three(72, 72, 2), Around { adds: 1, ..bordered }, Nothing),
            (2, (13, 9), three(64, 64, 1), bordered, Outliers),
            (1, (30, 30), three(136, 200, 1), bordered, Nothing),
        ];
        all.awkward.extend(awkward.map(|(batch, map, shape, around, plant)| case(batch, map, shape, around, plant)));
        // For rectangles of pixels and boxes of 64 channels: maps smaller than one and a little wider, ragged channels and outputs,
        // all steps, more taps, depths that go round a ring of stages.
        let (plain, floats) = (Around { bias: Bias::Plain, ..NOTHING }, Element::F32);
        let awkward = [
            (1, (1, 1), one(72, 136, 2), plain, Nothing),
            (3, (2, 3), three(264, 8, 1), Around { added: floats, ..unit(2, Func::Identity) }, Nan),
            (2, (7, 10), same(72, 8, 5), Around { added: floats, ..unit(1, Func::Relu) }, Outliers),
            (2, (7, 9), Shape { pad: 0, stride: 2, ..same(8, 72, 5) }, plain, Nothing),
            (1, (16, 11), Shape { stride: 2, ..same(264, 8, 7) }, plain, Outliers),
            (1, (32, 8), Shape { stride: 3, ..three(72, 8, 1) }, NOTHING, Nothing),
            (2, (14, 15), three(136, 72, 2), Around { adds: 1, ..plain }, Nan),
            (1, (65, 9), three(72, 72, 1), Around { adds: 2, added: floats, func: Func::Gelu, ..plain }, Nothing),
            (1, (5, 5), three(72, 520, 1), Around { adds: 1, func: Func::QuickGelu, ..plain }, Nothing),
            (2, (5, 5), three(136, 520, 1), unit(1, Func::Relu), Outliers),
            (1, (13, 15), three(264, 328, 1), Around { adds: 2, ..plain }, Nothing),
            (2, (8, 6), three(264, 136, 2), Around { adds: 2, ..bordered }, Outliers),
            (1, (21, 37), three(72, 72, 2), NOTHING, Nothing),
        ];
        all.awkward.extend(awkward.map(|(batch, map, shape, around, plant)| case(batch, map, shape, around, plant)));
        let real = [
            ((30, 30), three(1024, 1024, 2), bordered),
            ((30, 30), three(256, 1024, 1), bordered),
            ((15, 15), three(256, 1024, 1), NOTHING),
            ((120, 120), three(256, 256, 1), unit(0, Func::Relu)),
            ((120, 120), three(256, 256, 1), unit(2, Func::Identity)),
            ((60, 60), three(256, 256, 1), unit(1, Func::Identity)),
            ((30, 30), three(256, 256, 1), unit(1, Func::Identity)),
            ((15, 15), three(256, 256, 1), unit(1, Func::Identity)),
            ((480, 480), stem(64), NOTHING),
            ((120, 120), one(256, 64, 1), NOTHING),
            ((120, 120), one(512, 256, 2), NOTHING),
            ((120, 120), three(128, 128, 2), NOTHING),
        ];
        all.real.extend(real.map(|(map, shape, around)| case(1, map, shape, around, Nothing)));
    }

    pub fn case(batch: usize, map: Map, shape: Shape, around: Around, plant: Plant) -> Case {
        let Shape { outputs, inputs, kernel, stride, pad } = shape;
        let Around { relu_in, bias, adds, added, func } = around;
        let (h, w) = shape.out(map);
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, map.0, map.1, inputs], Element::Activation, 1.0);
        let mut epilogue = Epilogue::func(func);
        for add in epilogue.add.iter_mut().take(adds) {
            *add = Some(c.input([batch, h, w, outputs], added, 1.0).all());
        }
        let weight = c.filters(shape);
        let rows = [0, 1, BORDERS][bias as usize];
        let bias = (rows > 0).then(|| c.vector(rows * outputs, 1.0));
        let out = c.output([batch, h, w, outputs], Element::Activation);
        let on = switches([
            (relu_in, "relu_in"),
            (rows == 1, "bias"),
            (rows == BORDERS, "bordered"),
            (adds > 0, &format!("add{adds}")),
            (added == Element::F32, "floats"),
            (func != Func::Identity, &lowercase(func)),
        ]);
        let sizes = format!("{batch}x{}x{}x{inputs}-{outputs}-kernel{kernel}-stride{stride}{on}", map.0, map.1);
        let w = Weights { weight, bias, kernel, stride, pad };
        c.build(sizes, out, Conv { x, w, relu_in, epilogue, out })
    }
}
