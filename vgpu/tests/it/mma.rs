//! Every kind of mma against plain loops over whole matrices, at random values and at the ends of each format.
//!
//! Which lane holds which element: PTX ISA, "Matrix Fragments for mma", written down here once more, as formulas.

use crate::lab::{OPTIONS, run_ptx};
use crate::random::Random;
use vgpu_cuda::exec::{Options, TensorMode};

/// The format of a and b.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Format {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Sums {
    F32,
    F16,
    S32,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    format: Format,
    sums: Sums,
    k: usize,
}

const SHAPES: &[Shape] = {
    use Format::*;
    &[
        Shape { format: F16, sums: Sums::F32, k: 16 },
        Shape { format: F16, sums: Sums::F32, k: 8 },
        Shape { format: F16, sums: Sums::F16, k: 16 },
        Shape { format: F16, sums: Sums::F16, k: 8 },
        Shape { format: Bf16, sums: Sums::F32, k: 16 },
        Shape { format: Bf16, sums: Sums::F32, k: 8 },
        Shape { format: Tf32, sums: Sums::F32, k: 8 },
        Shape { format: Tf32, sums: Sums::F32, k: 4 },
        Shape { format: E4m3, sums: Sums::F32, k: 32 },
        Shape { format: E5m2, sums: Sums::F32, k: 32 },
        Shape { format: S8, sums: Sums::S32, k: 32 },
    ]
};

impl Format {
    fn bits(self) -> usize {
        match self {
            Format::F16 | Format::Bf16 => 16,
            Format::Tf32 => 32,
            _ => 8,
        }
    }

    /// Bits of exponent and fraction.
    fn parts(self) -> (i32, i32) {
        match self {
            Format::F16 => (5, 10),
            Format::Bf16 => (8, 7),
            Format::Tf32 => (8, 10),
            Format::E4m3 => (4, 3),
            _ => (5, 2),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::F16 => "f16",
            Format::Bf16 => "bf16",
            Format::Tf32 => "tf32",
            Format::E4m3 => "e4m3",
            Format::E5m2 => "e5m2",
            Format::S8 => "s8",
        }
    }

    /// The number that the bits stand for; tf32 has no use for the low 13.
    pub fn value(self, bits: u32) -> f64 {
        if self == Format::S8 {
            return f64::from(bits as u8 as i8);
        }
        let bits = if self == Format::Tf32 { bits >> 13 } else { bits };
        let (exponent_bits, fraction_bits) = self.parts();
        let fraction = f64::from(bits & ((1 << fraction_bits) - 1));
        let exponent = (bits >> fraction_bits & ((1 << exponent_bits) - 1)) as i32;
        let sign = if bits >> (exponent_bits + fraction_bits) & 1 == 1 { -1.0 } else { 1.0 };
        let (bias, top) = ((1 << (exponent_bits - 1)) - 1, (1 << exponent_bits) - 1);
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(1 - bias - fraction_bits),
            // e4m3 has no infinities, and one NaN.
            e if e == top && self == Format::E4m3 && fraction == 7.0 => f64::NAN,
            e if e == top && self != Format::E4m3 => {
                if fraction == 0.0 {
                    f64::INFINITY
                } else {
                    f64::NAN
                }
            }
            e => (1.0 + fraction / 2f64.powi(fraction_bits)) * 2f64.powi(e - bias),
        };
        sign * magnitude
    }

    /// Bits of a number of moderate size (sums stay far from float32's ends), every tenth at an end of the format.
    pub fn any(self, random: &mut Random) -> u32 {
        if random.below(10) == 0 {
            let (exponent_bits, fraction_bits) = self.parts();
            let sign = (random.below(2) as u32) << (self.bits() - 1);
            let shift = if self == Format::Tf32 { 13 } else { 0 };
            let largest = match self {
                Format::S8 => return [0x80, 0x7f, 0, 0xff][random.below(4) as usize],
                Format::E4m3 => 0x7e,
                Format::F16 | Format::E5m2 => (((1 << exponent_bits) - 1) << fraction_bits) - 1,
                // 2^40: their own ends would leave float32's range.
                _ => (127 + 40) << fraction_bits,
            };
            // Zero, the smallest subnormal and normal number, the largest.
            let ends = [0, 1, 1 << fraction_bits, largest];
            return sign | ends[random.below(4) as usize] << shift;
        }
        loop {
            let bits = (random.next() >> 16) as u32 & (u32::MAX >> (32 - self.bits()));
            let size = self.value(bits).abs();
            if self == Format::S8 || (size.is_finite() && size < 1e12) {
                return bits;
            }
        }
    }
}

/// Bits of a (16×k), b (k×8) and c (16×8).
struct Matrices {
    a: Vec<Vec<u32>>,
    b: Vec<Vec<u32>>,
    c: Vec<Vec<u32>>,
}

impl Shape {
    /// Elements of a register.
    fn packed(self) -> usize {
        32 / self.format.bits()
    }

    fn a_registers(self) -> usize {
        16 * self.k / 32 / self.packed()
    }

    /// (row, column) of part `part` of a's register.
    fn a_place(self, lane: usize, register: usize, part: usize) -> (usize, usize) {
        let n = self.packed();
        (lane / 4 + 8 * (register % 2), n * (lane % 4) + part + 4 * n * (register / 2))
    }

    fn b_place(self, lane: usize, register: usize, part: usize) -> (usize, usize) {
        let n = self.packed();
        (n * (lane % 4) + part + 4 * n * register, lane / 4)
    }

    fn c_place(lane: usize, i: usize) -> (usize, usize) {
        (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2)
    }

    fn c_registers(self) -> usize {
        if self.sums == Sums::F16 { 2 } else { 4 }
    }

    fn ptx(self) -> String {
        let (a, b, c) = (self.a_registers(), self.a_registers() / 2, self.c_registers());
        let load = |name: &str, first: usize, count: usize| -> String {
            (0..count).map(|i| format!("ld.global.b32 %{name}{i}, [%rd1+{}];\n", 4 * (first + i))).collect()
        };
        let list = |name: &str, count: usize| {
            format!("{{{}}}", (0..count).map(|i| format!("%{name}{i}")).collect::<Vec<_>>().join(", "))
        };
        let (format, sums) = (self.format.name(), if self.sums == Sums::F16 { "f16" } else { "f32" });
        let sums = if self.sums == Sums::S32 { "s32" } else { sums };
        let stores: String = (0..c).map(|i| format!("st.global.b32 [%rd2+{}], %d{i};\n", 4 * i)).collect();
        format!(
            ".version 8.4\n.target sm_89\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out) {{\n\
             .reg .b32 %a<4>, %b<2>, %c<4>, %d<4>, %r<2>;\n.reg .b64 %rd<4>;\n\
             ld.param.u64 %rd1, [in];\nld.param.u64 %rd2, [out];\nmov.u32 %r1, %tid.x;\n\
             mul.wide.u32 %rd3, %r1, 40;\nadd.s64 %rd1, %rd1, %rd3;\n\
             mul.wide.u32 %rd3, %r1, 16;\nadd.s64 %rd2, %rd2, %rd3;\n{}{}{}\
             mma.sync.aligned.m16n8k{}.row.col.{sums}.{format}.{format}.{sums} {}, {}, {}, {};\n{stores}ret;\n}}\n",
            load("a", 0, a),
            load("b", 4, b),
            load("c", 6, c),
            self.k,
            list("d", c),
            list("a", a),
            list("b", b),
            list("c", c),
        )
    }

    /// The result's bits, 16×8.
    fn multiply(self, m: &Matrices, options: &Options) -> Vec<Vec<u32>> {
        let mut input = vec![0u32; 320];
        for (lane, words) in input.chunks_exact_mut(10).enumerate() {
            for register in 0..self.a_registers() {
                for part in 0..self.packed() {
                    let shift = part * self.format.bits();
                    let (row, column) = self.a_place(lane, register, part);
                    words[register] |= m.a[row][column] << shift;
                    if register < self.a_registers() / 2 {
                        let (row, column) = self.b_place(lane, register, part);
                        words[4 + register] |= m.b[row][column] << shift;
                    }
                }
            }
            for i in 0..4 {
                let (row, column) = Shape::c_place(lane, i);
                match self.sums {
                    Sums::F16 => words[6 + i / 2] |= m.c[row][column] << (16 * (i % 2)),
                    _ => words[6 + i] = m.c[row][column],
                }
            }
        }
        let out = run_ptx(&self.ptx(), &input, 128, options).unwrap_or_else(|fault| panic!("{self:?}: {fault}"));
        let mut d = vec![vec![0; 8]; 16];
        for (lane, words) in out.chunks_exact(4).enumerate() {
            for i in 0..4 {
                let (row, column) = Shape::c_place(lane, i);
                d[row][column] = match self.sums {
                    Sums::F16 => words[i / 2] >> (16 * (i % 2)) & 0xffff,
                    _ => words[i],
                };
            }
        }
        d
    }

    fn sum_value(self, bits: u32) -> f64 {
        match self.sums {
            Sums::F32 => f64::from(f32::from_bits(bits)),
            Sums::F16 => Format::F16.value(bits),
            Sums::S32 => f64::from(bits as i32),
        }
    }

    fn any(self, random: &mut Random) -> Matrices {
        let mut matrix = |rows: usize, columns: usize, any: &dyn Fn(&mut Random) -> u32| -> Vec<Vec<u32>> {
            (0..rows).map(|_| (0..columns).map(|_| any(random)).collect()).collect()
        };
        let factor = |random: &mut Random| self.format.any(random);
        let addend = |random: &mut Random| match self.sums {
            Sums::F32 => {
                ((random.below(1 << 20) as f32 - 5e5) * if random.below(2) == 0 { 1.0 } else { 1e-6 }).to_bits()
            }
            Sums::F16 => Format::F16.any(random),
            Sums::S32 => random.next() as u32,
        };
        Matrices { a: matrix(16, self.k, &factor), b: matrix(self.k, 8, &factor), c: matrix(16, 8, &addend) }
    }

    /// The sum in float64, and of its terms' magnitudes.
    fn exact(self, m: &Matrices, row: usize, column: usize) -> (f64, f64) {
        let c = self.sum_value(m.c[row][column]);
        let product = |k: usize| self.format.value(m.a[row][k]) * self.format.value(m.b[k][column]);
        (0..self.k).map(product).fold((c, c.abs()), |(sum, size), x| (sum + x, size + x.abs()))
    }
}

fn modes() -> [Options; 2] {
    [OPTIONS, Options { tensor: TensorMode::Hardware, ..OPTIONS }]
}

#[test]
fn sums_of_products_agree_with_float64() {
    for (shape, options) in SHAPES.iter().flat_map(|shape| modes().map(|options| (shape, options))) {
        if shape.sums == Sums::S32 {
            continue;
        }
        let mut random = Random(shape.k as u64);
        for _ in 0..20 {
            let m = shape.any(&mut random);
            let d = shape.multiply(&m, &options);
            for (row, column) in (0..16).flat_map(|row| (0..8).map(move |column| (row, column))) {
                let (exact, size) = shape.exact(&m, row, column);
                let found = shape.sum_value(d[row][column]);
                // A rounding of the terms for each step; tensor cores cut, at worst every term.
                let steps = shape.k as f64 + 1.0;
                let each = match options.tensor {
                    TensorMode::Fast => 2f64.powi(-24),
                    TensorMode::Hardware if shape.format.bits() == 8 => 2f64.powi(-12),
                    TensorMode::Hardware => 2f64.powi(-22),
                };
                let mut bound = steps * each * size;
                if shape.sums == Sums::F16 {
                    // One more of the result; of each block of products in hardware.
                    bound += 2f64.powi(-11) * if options.tensor == TensorMode::Fast { exact.abs() } else { 2.0 * size };
                    bound += 2f64.powi(-24);
                    // Tensor cores round, and overflow, between blocks of products too.
                    let largest = if options.tensor == TensorMode::Fast { exact.abs() + bound } else { size };
                    if largest >= 65504.0 {
                        continue;
                    }
                }
                assert!(
                    (found - exact).abs() <= bound,
                    "{shape:?} {:?}: ({row}, {column}) is {found}, expected {exact} ± {bound:e}",
                    options.tensor
                );
            }
        }
    }
}

#[test]
fn integer_sums_are_exact_and_wrap() {
    let shape = SHAPES[SHAPES.len() - 1];
    let mut random = Random(7);
    for round in 0..20 {
        let mut m = shape.any(&mut random);
        if round == 0 {
            // The most there is, beyond 32 bits.
            m.a.iter_mut().chain(&mut m.b).flatten().for_each(|x| *x = 0x80);
            m.c.iter_mut().flatten().for_each(|x| *x = i32::MAX as u32 - 3);
        }
        let d = shape.multiply(&m, &OPTIONS);
        for (row, column) in (0..16).flat_map(|row| (0..8).map(move |column| (row, column))) {
            let mut sum = i64::from(m.c[row][column] as i32);
            for k in 0..shape.k {
                sum += i64::from(m.a[row][k] as u8 as i8) * i64::from(m.b[k][column] as u8 as i8);
            }
            assert_eq!(d[row][column], sum as u32, "({row}, {column})");
        }
    }
}

/// Infinities and NaNs reach the results that they are factors of, and no others.
#[test]
fn infinities_and_nans_stay_in_their_rows() {
    for (shape, options) in SHAPES.iter().flat_map(|shape| modes().map(|options| (shape, options))) {
        if shape.sums == Sums::S32 {
            continue;
        }
        let (exponent_bits, fraction_bits) = shape.format.parts();
        let shift = if shape.format == Format::Tf32 { 13 } else { 0 };
        let top = ((1u32 << exponent_bits) - 1) << fraction_bits << shift;
        let one = ((1u32 << (exponent_bits - 1)) - 1) << fraction_bits << shift;
        let filled = |rows: usize, columns: usize, x: u32| vec![vec![x; columns]; rows];
        let mut m = Matrices { a: filled(16, shape.k, one), b: filled(shape.k, 8, one), c: filled(16, 8, 0) };
        let not_a_number = top | ((1 << fraction_bits) - 1) << shift;
        (m.a[3][shape.k - 1], m.b[1][5]) = (not_a_number, 0);
        let has_infinity = shape.format != Format::E4m3;
        if has_infinity {
            m.a[9][1] = top;
        }
        let d = shape.multiply(&m, &options);
        for (row, column) in (0..16).flat_map(|row| (0..8).map(move |column| (row, column))) {
            let found = shape.sum_value(d[row][column]);
            let what = format!("{shape:?} {:?}: ({row}, {column}) is {found}", options.tensor);
            match (row, column) {
                (3, _) => assert!(found.is_nan(), "{what}"),
                // Infinity times zero.
                (9, 5) if has_infinity => assert!(found.is_nan(), "{what}"),
                (9, _) if has_infinity => assert_eq!(found, f64::INFINITY, "{what}"),
                _ => assert_eq!(found, shape.k as f64 - if column == 5 { 1.0 } else { 0.0 }, "{what}"),
            }
        }
    }
}
