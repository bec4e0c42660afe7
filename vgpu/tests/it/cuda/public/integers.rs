//! Products of small integers: every sum is exact in f32, so a right kernel leaves exactly the rounded one.

use crate::random::Random;

/// rows × depth and columns × depth, and their product.
pub struct Product {
    pub depth: usize,
    pub a: Vec<i8>,
    pub b: Vec<i8>,
}

impl Product {
    pub fn new(rows: usize, columns: usize, depth: usize) -> Product {
        let mut random = Random((rows + columns + depth) as u64);
        let mut integers = |count: usize| (0..count).map(|_| random.below(7) as i8 - 3).collect();
        Product { depth, a: integers(rows * depth), b: integers(columns * depth) }
    }

    /// Of a row and a column, over `depth` from `first` on.
    pub fn sum(&self, row: usize, column: usize, first: usize, depth: usize) -> i32 {
        let (a, b) = (&self.a[row * self.depth + first..][..depth], &self.b[column * self.depth + first..][..depth]);
        a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum()
    }
}

/// In bf16.
pub fn bf16(values: &[i8]) -> Vec<u16> {
    values.iter().map(|&v| half::bf16::from_f32(f32::from(v)).to_bits()).collect()
}

/// In e4m3: of −3 … 3.
pub fn e4m3(values: &[i8]) -> Vec<u8> {
    let magnitude = |v: i8| [0x00, 0x38, 0x40, 0x44][usize::from(v.unsigned_abs())];
    values.iter().map(|&v| magnitude(v) | if v < 0 { 0x80 } else { 0 }).collect()
}
