//! Every linear layer: a product with its epilogue.

use super::{Epilogue, Linear, Matrix, Operand, Operation, PlanBuilder, Rows, Vector, need};

/// out = epilogue(x·Wᵀ + b), row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// `[b, 1, m, k]`
    pub x: Rows,
    /// `[n, k]`
    pub w: Linear,
    pub epilogue: Epilogue,
    /// `[b, 1, m, n]`
    pub out: Rows,
}

impl PlanBuilder {
    pub fn gemm(&mut self, x: Rows, w: &Linear, epilogue: Epilogue, out: Rows) {
        self.push(Gemm { x, w: *w, epilogue, out });
    }
}

impl Linear {
    /// One that is only planned: weights and a bias of nowhere.
    pub fn of_shape(n: usize, k: usize) -> Linear {
        Linear { weight: Matrix { index: 0, n, k }, bias: Some(Vector { index: 0, len: n }) }
    }

    /// Shows the weight and the bias.
    pub(super) fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Matrix(&mut self.weight));
        if let Some(bias) = &mut self.bias {
            see(Operand::Vector(bias));
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let (n, bias) = (self.weight.n, self.bias.map(|bias| bias.len));
        need(bias.is_none_or(|len| len == n), || format!("a bias of {bias:?} values for {n} outputs"))
    }
}

impl Operation for Gemm {
    fn check(&self) -> Result<(), String> {
        let Gemm { x, w, epilogue, out } = self;
        need(x.fit() && out.fit(), || "the rows lie within their buffers".to_owned())?;
        need(x.all_count() == out.all_count(), || format!("{} rows become {}", x.all_count(), out.all_count()))?;
        need(x.buf.channels() == w.weight.k, || {
            format!("{} channels for a depth of {}", x.buf.channels(), w.weight.k)
        })?;
        need(out.buf.channels() == w.weight.n, || {
            format!("{} channels for {} outputs", out.buf.channels(), w.weight.n)
        })?;
        for add in epilogue.add.iter().flatten() {
            let fits = add.fit() && add.buf.channels() == w.weight.n && add.buf.batch() == out.buf.batch();
            let counts = add.count == out.count || add.count == 1;
            need(fits && counts, || "what is added has the output's rows, or one a batch item".to_owned())?;
        }
        w.check()
    }

    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        see(Operand::Read(&mut self.x.buf));
        self.w.operands(see);
        self.epilogue.operands(see);
        see(Operand::Write(&mut self.out.buf));
    }

    fn flop(&self) -> usize {
        2 * self.x.all_count() * self.w.weight.n * self.w.weight.k
    }

    fn shapes(&self) -> String {
        let (k, n) = (self.w.weight.k, self.w.weight.n);
        format!("{}×{k} · {k}→{n}", self.x.all_count())
    }
}

#[cfg(feature = "bench")]
pub mod cases {
    use super::*;
    use crate::ops::cases::Plant::{self, Nan, Nothing, Outliers};
    use crate::ops::cases::{Case, CaseBuilder, Cases, lowercase, switches};
    use crate::ops::{Element, Func};

    /// What is added before the function.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Add {
        None,
        /// Rows of the output's shape.
        One,
        Two,
        /// One row for each batch item.
        Row,
    }

    /// Of each batch item the rows `first .. first + rows` of the input, `behind` more behind them, become the rows
    /// `to .. to + rows` of the output; its rows before them stay.
    #[derive(Clone, Copy)]
    struct GemmCase {
        batch: usize,
        first: usize,
        rows: usize,
        behind: usize,
        to: usize,
        k: usize,
        n: usize,
        x: Element,
        out: Element,
        bias: bool,
        add: Add,
        func: Func,
    }

    /// x·Wᵀ + b and nothing else.
    fn plain(rows: usize, k: usize, n: usize) -> GemmCase {
        let (x, out, func) = (Element::Activation, Element::Activation, Func::Identity);
        GemmCase { batch: 1, first: 0, rows, behind: 0, to: 0, k, n, x, out, bias: true, add: Add::None, func }
    }

    /// With a function, as a transformer's first product.
    fn hidden(batch: usize, rows: usize, k: usize, n: usize, func: Func) -> GemmCase {
        GemmCase { batch, func, ..plain(rows, k, n) }
    }

    /// Onto the residual stream, as its second.
    fn residual(rows: usize, k: usize, n: usize, func: Func) -> GemmCase {
        GemmCase { out: Element::F32, add: Add::One, func, ..plain(rows, k, n) }
    }

    /// The stream's patch tokens, in a batch: it starts behind the class token, as the readout does.
    fn tokens(rows: usize, k: usize, n: usize, add: Add, func: Func) -> GemmCase {
        GemmCase { batch: 2, first: 1, x: Element::F32, add, func, ..plain(rows, k, n) }
    }

    /// Into the stream, behind the class token, in a batch: the patch embedding.
    fn embedding(batch: usize, rows: usize, k: usize, n: usize) -> GemmCase {
        GemmCase { batch, to: 1, out: Element::F32, ..plain(rows, k, n) }
    }

    /// The stream's class tokens alone.
    fn class(batch: usize, behind: usize, k: usize, n: usize) -> GemmCase {
        GemmCase { batch, behind, x: Element::F32, out: Element::F32, ..plain(1, k, n) }
    }

    /// To float32: embeddings of pixels and texts.
    fn to_f32(rows: usize, k: usize, n: usize, bias: bool) -> GemmCase {
        GemmCase { bias, out: Element::F32, ..plain(rows, k, n) }
    }

    pub fn add(all: &mut Cases) {
        let shifted =
            GemmCase { batch: 2, behind: 2, to: 3, bias: false, add: Add::Two, ..residual(7, 17, 16, Func::Gelu) };
        let awkward = [
            (plain(1, 1, 1), Nothing),
            (plain(5, 3, 17), Nothing),
            (plain(7, 257, 15), Outliers),
            (plain(145, 33, 100), Outliers),
            (plain(145, 300, 33), Nan),
            (plain(901, 100, 17), Nothing),
            (plain(7, 1025, 33), Outliers),
            (residual(1, 300, 257, Func::Identity), Nothing),
            (residual(145, 15, 3, Func::Relu), Nan),
            (residual(901, 257, 33, Func::Gelu), Outliers),
            (tokens(1, 33, 17, Add::Row, Func::Gelu), Nothing),
            (tokens(5, 257, 15, Add::Two, Func::Relu), Nothing),
            (tokens(145, 100, 33, Add::Row, Func::Gelu), Nan),
            (tokens(7, 17, 300, Add::None, Func::QuickGelu), Outliers),
            (tokens(145, 33, 1, Add::One, Func::QuickGelu), Nothing),
            (shifted, Nothing),
            // Whole chunks of eight channels, ragged against every tile: rows, depth, columns.
            (plain(8, 8, 8), Nothing),
            (plain(901, 72, 136), Nothing),
            (plain(901, 136, 3080), Nothing),
            (plain(145, 1032, 72), Outliers),
            (plain(300, 264, 264), Nan),
            (hidden(1, 145, 136, 520, Func::Gelu), Outliers),
            (hidden(3, 12, 64, 264, Func::QuickGelu), Nothing),
            (residual(901, 136, 264, Func::Identity), Outliers),
            (residual(77, 2056, 72, Func::Identity), Nothing),
            (residual(130, 520, 136, Func::Identity), Nan),
            (tokens(145, 136, 72, Add::Row, Func::Gelu), Outliers),
            (tokens(12, 264, 136, Add::Row, Func::Gelu), Nothing),
            (embedding(2, 145, 72, 136), Nothing),
            (embedding(1, 35, 48, 33), Nothing),
            (class(2, 5, 136, 264), Outliers),
            (class(1, 0, 33, 17), Nothing),
            (tokens(250, 72, 264, Add::Row, Func::Gelu), Nothing),
            // One stage of depth, and more than a ring of them holds.
            (tokens(12, 64, 40, Add::None, Func::Identity), Nothing),
            (tokens(33, 1032, 72, Add::Row, Func::Gelu), Nothing),
            (to_f32(145, 72, 136, true), Nothing),
            (to_f32(1, 136, 72, false), Nothing),
            (to_f32(5, 64, 40, false), Nothing),
            // Columns that are no multiple of four, added up one by one.
            (tokens(5, 264, 15, Add::Two, Func::Relu), Nothing),
        ];
        all.awkward.extend(awkward.map(|(gemm, plant)| case(gemm, plant)));
        let real = [
            (embedding(1, 900, 768, 1024), Nothing),
            (plain(901, 1024, 3072), Outliers),
            (residual(901, 1024, 1024, Func::Identity), Outliers),
            (hidden(1, 901, 1024, 4096, Func::Gelu), Nothing),
            (residual(901, 4096, 1024, Func::Identity), Nothing),
            (plain(900, 1024, 256), Nothing),
            (plain(900, 1024, 512), Nothing),
            (plain(14_400, 256, 256), Nothing),
            (to_f32(57_600, 256, 512, true), Nothing),
            (hidden(20, 12, 512, 2048, Func::QuickGelu), Nothing),
            (to_f32(20, 512, 512, false), Nothing),
        ];
        all.real.extend(real.map(|(gemm, plant)| case(gemm, plant)));
    }

    fn case(gemm: GemmCase, plant: Plant) -> Case {
        let GemmCase { batch, first, rows, behind, to, k, n, x, out, bias, add, func } = gemm;
        let mut c = CaseBuilder::new(plant);
        let x = c.input([batch, 1, first + rows + behind, k], x, 1.0);
        let part = |buf| Rows { buf, first: to, count: rows };
        let shape = [batch, 1, to + rows, n];
        let mut added = || part(c.input(shape, Element::F32, 1.0));
        let epilogue = match add {
            Add::None => Epilogue::NONE,
            Add::One => Epilogue::add(added()),
            Add::Two => Epilogue::add(added()).and_add(added()),
            Add::Row => Epilogue::add(c.input([batch, 1, 1, n], Element::F32, 1.0).all()),
        };
        let w = Linear { weight: c.matrix(n, k), bias: bias.then(|| c.vector(n, 1.0)) };
        let out = c.output(shape, out);
        // Rows outside the parts.
        let sums = if add == Add::Row { 0 } else { epilogue.add.iter().flatten().count() };
        c.spare(batch * (first + behind) * k * x.element.bytes(2));
        c.spare(batch * to * n * (out.element.bytes(2) + sums * Element::F32.bytes(2)));
        let sizes = format!("{batch}x{rows}x{k}x{n}");
        let shifts = [("first", first), ("behind", behind), ("to", to)].map(|(name, by)| match by {
            0 => String::new(),
            by => format!("-{name}{by}"),
        });
        let on = switches([
            (x.element == Element::F32, "from_f32"),
            (out.element == Element::F32, "to_f32"),
            (bias, "bias"),
            (add != Add::None, &format!("add_{}", lowercase(add))),
            (func != Func::Identity, &lowercase(func)),
        ]);
        let x = Rows { buf: x, first, count: rows };
        c.build(sizes + &shifts.concat() + &on, out, Gemm { x, w, epilogue: epilogue.then(func), out: part(out) })
    }
}
