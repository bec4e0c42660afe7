//! Integer and bit operations.

use super::registers::{Done, Registers, Value, map1, map2, map3};
use crate::ir::{BinOp, Slot, TernOp, Ty, UnOp};

/// The plain operations that every width has.
trait Integer: Value {
    const BITS: u32;
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn mul_high(self, b: Self) -> Self;
    /// Division by zero gives all ones, as the hardware's routine does; so does the remainder.
    fn div(self, b: Self) -> Self;
    fn rem(self, b: Self) -> Self;
    fn min(self, b: Self) -> Self;
    fn max(self, b: Self) -> Self;
    fn shl(self, amount: u32) -> Self;
    fn shr(self, amount: u32) -> Self;
    fn distance(self, b: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    /// The highest set bit, of a negative number the highest zero bit; all ones if there is none.
    fn top_bit(self) -> u32;
    fn extract(self, position: u32, length: u32) -> Self;
}

macro_rules! integer {
    ($ty:ident, $wide:ident, $unsigned:ident, $signed:expr) => {
        impl Integer for $ty {
            const BITS: u32 = $ty::BITS;
            #[inline(always)]
            fn add(self, b: $ty) -> $ty {
                self.wrapping_add(b)
            }
            #[inline(always)]
            fn sub(self, b: $ty) -> $ty {
                self.wrapping_sub(b)
            }
            #[inline(always)]
            fn mul(self, b: $ty) -> $ty {
                self.wrapping_mul(b)
            }
            #[inline(always)]
            fn mul_high(self, b: $ty) -> $ty {
                ((self as $wide * b as $wide) >> $ty::BITS) as $ty
            }
            #[inline(always)]
            fn div(self, b: $ty) -> $ty {
                if b == 0 { !0 } else { self.wrapping_div(b) }
            }
            #[inline(always)]
            fn rem(self, b: $ty) -> $ty {
                if b == 0 { !0 } else { self.wrapping_rem(b) }
            }
            #[inline(always)]
            fn min(self, b: $ty) -> $ty {
                Ord::min(self, b)
            }
            #[inline(always)]
            fn max(self, b: $ty) -> $ty {
                Ord::max(self, b)
            }
            #[inline(always)]
            fn shl(self, amount: u32) -> $ty {
                if amount < $ty::BITS { self << amount } else { 0 }
            }
            #[inline(always)]
            fn shr(self, amount: u32) -> $ty {
                let amount = if amount < $ty::BITS {
                    amount
                } else if $signed {
                    $ty::BITS - 1
                } else {
                    return 0;
                };
                self >> amount
            }
            #[inline(always)]
            fn distance(self, b: $ty) -> $ty {
                self.abs_diff(b) as $ty
            }
            #[inline(always)]
            fn neg(self) -> $ty {
                (0 as $ty).wrapping_sub(self)
            }
            #[inline(always)]
            #[allow(unused_comparisons)]
            fn abs(self) -> $ty {
                if self < 0 { Integer::neg(self) } else { self }
            }
            #[inline(always)]
            #[allow(unused_comparisons)]
            fn top_bit(self) -> u32 {
                let magnitude = (if self < 0 { !self } else { self }) as $unsigned;
                ($ty::BITS - 1).wrapping_sub(magnitude.leading_zeros())
            }
            #[inline(always)]
            fn extract(self, position: u32, length: u32) -> $ty {
                let (position, length) = (position & 0xff, length & 0xff);
                if length == 0 {
                    return 0;
                }
                let rest = Integer::shr(self, position);
                let unused = $ty::BITS.saturating_sub(length);
                (rest << unused) >> unused
            }
        }
    };
}

integer!(u16, u32, u16, false);
integer!(i16, i32, u16, true);
integer!(u32, u64, u32, false);
integer!(i32, i64, u32, true);
integer!(u64, u128, u64, false);
integer!(i64, i128, u64, true);

/// Calls `$f::<T>` for the integer type; other types are not integers (`None`).
macro_rules! by_type {
    ($ty:expr, $f:ident($($arg:expr),*)) => {
        match $ty {
            Ty::U16 => $f::<u16>($($arg),*),
            Ty::S16 => $f::<i16>($($arg),*),
            Ty::U32 => $f::<u32>($($arg),*),
            Ty::S32 => $f::<i32>($($arg),*),
            Ty::U64 => $f::<u64>($($arg),*),
            Ty::S64 => $f::<i64>($($arg),*),
            _ => None,
        }
    };
}

/// `None`: not an operation on integers.
pub(super) fn unary(r: &mut Registers<'_>, active: u32, op: UnOp, ty: Ty, s: [Slot; 2]) -> Option<Done> {
    let wide = ty.is_wide();
    let done = match op {
        UnOp::Not if wide => map1(r, active, s, |a: u64| !a),
        UnOp::Not if ty.bytes() == 2 => map1(r, active, s, |a: u16| !a),
        UnOp::Not => map1(r, active, s, |a: u32| !a),
        UnOp::Cnot if wide => map1(r, active, s, |a: u64| (a == 0) as u64),
        UnOp::Cnot if ty.bytes() == 2 => map1(r, active, s, |a: u16| (a == 0) as u16),
        UnOp::Cnot => map1(r, active, s, |a: u32| (a == 0) as u32),
        UnOp::Clz if wide => map1(r, active, s, |a: u64| a.leading_zeros()),
        UnOp::Clz => map1(r, active, s, |a: u32| a.leading_zeros()),
        UnOp::Popc if wide => map1(r, active, s, |a: u64| a.count_ones()),
        UnOp::Popc => map1(r, active, s, |a: u32| a.count_ones()),
        UnOp::Brev if wide => map1(r, active, s, |a: u64| a.reverse_bits()),
        UnOp::Brev => map1(r, active, s, |a: u32| a.reverse_bits()),
        _ => return by_type!(ty, unary_of(r, active, op, s)),
    };
    Some(done)
}

fn unary_of<T: Integer>(r: &mut Registers<'_>, active: u32, op: UnOp, s: [Slot; 2]) -> Option<Done> {
    Some(match op {
        UnOp::Neg => map1(r, active, s, T::neg),
        UnOp::Abs => map1(r, active, s, T::abs),
        UnOp::Bfind => map1(r, active, s, T::top_bit),
        UnOp::BfindShift => map1(r, active, s, |a: T| match a.top_bit() {
            u32::MAX => u32::MAX,
            bit => T::BITS - 1 - bit,
        }),
        _ => return None,
    })
}

/// `None`: not an operation on integers.
pub(super) fn binary(r: &mut Registers<'_>, active: u32, op: BinOp, ty: Ty, s: [Slot; 3]) -> Option<Done> {
    let wide = ty.is_wide();
    let done = match (op, ty) {
        // Bits have no sign, and 16-bit values lie zero-extended.
        (BinOp::And, _) if wide => map2(r, active, s, |a: u64, b: u64| a & b),
        (BinOp::And, _) => map2(r, active, s, |a: u32, b: u32| a & b),
        (BinOp::Or, _) if wide => map2(r, active, s, |a: u64, b: u64| a | b),
        (BinOp::Or, _) => map2(r, active, s, |a: u32, b: u32| a | b),
        (BinOp::Xor, _) if wide => map2(r, active, s, |a: u64, b: u64| a ^ b),
        (BinOp::Xor, _) => map2(r, active, s, |a: u32, b: u32| a ^ b),
        (BinOp::MulWide, Ty::U16) => map2(r, active, s, |a: u16, b: u16| a as u32 * b as u32),
        (BinOp::MulWide, Ty::S16) => map2(r, active, s, |a: i16, b: i16| a as i32 * b as i32),
        (BinOp::MulWide, Ty::U32) => map2(r, active, s, |a: u32, b: u32| a as u64 * b as u64),
        (BinOp::MulWide, Ty::S32) => map2(r, active, s, |a: i32, b: i32| a as i64 * b as i64),
        (BinOp::AddSat, Ty::S32) => map2(r, active, s, i32::saturating_add),
        (BinOp::SubSat, Ty::S32) => map2(r, active, s, i32::saturating_sub),
        (BinOp::Mul24Lo, Ty::U32) => map2(r, active, s, |a: u32, b: u32| low24(a).wrapping_mul(low24(b))),
        (BinOp::Mul24Lo, Ty::S32) => map2(r, active, s, |a: i32, b: i32| signed24(a).wrapping_mul(signed24(b))),
        _ => return by_type!(ty, binary_of(r, active, op, s)),
    };
    Some(done)
}

fn low24(a: u32) -> u32 {
    a & 0xff_ffff
}

fn signed24(a: i32) -> i32 {
    (a << 8) >> 8
}

fn binary_of<T: Integer>(r: &mut Registers<'_>, active: u32, op: BinOp, s: [Slot; 3]) -> Option<Done> {
    Some(match op {
        BinOp::Add => map2(r, active, s, T::add),
        BinOp::Sub => map2(r, active, s, T::sub),
        BinOp::MulLo => map2(r, active, s, T::mul),
        BinOp::MulHi => map2(r, active, s, T::mul_high),
        BinOp::Div => map2(r, active, s, T::div),
        BinOp::Rem => map2(r, active, s, T::rem),
        BinOp::Min => map2(r, active, s, T::min),
        BinOp::Max => map2(r, active, s, T::max),
        BinOp::Shl => map2(r, active, s, T::shl),
        BinOp::Shr => map2(r, active, s, T::shr),
        _ => return None,
    })
}

/// `None`: not an operation on integers.
pub(super) fn ternary(r: &mut Registers<'_>, active: u32, op: TernOp, ty: Ty, s: [Slot; 4]) -> Option<Done> {
    let done = match (op, ty) {
        (TernOp::MadWide, Ty::U16) => {
            map3(r, active, s, |a: u16, b: u16, c: u32| (a as u32 * b as u32).wrapping_add(c))
        }
        (TernOp::MadWide, Ty::S16) => {
            map3(r, active, s, |a: i16, b: i16, c: i32| (a as i32 * b as i32).wrapping_add(c))
        }
        (TernOp::MadWide, Ty::U32) => {
            map3(r, active, s, |a: u32, b: u32, c: u64| (a as u64 * b as u64).wrapping_add(c))
        }
        (TernOp::MadWide, Ty::S32) => {
            map3(r, active, s, |a: i32, b: i32, c: i64| (a as i64 * b as i64).wrapping_add(c))
        }
        (TernOp::MadHiSat, Ty::S32) => map3(r, active, s, |a: i32, b: i32, c: i32| a.mul_high(b).saturating_add(c)),
        (TernOp::Mad24Lo, Ty::U32) => {
            map3(r, active, s, |a: u32, b: u32, c: u32| low24(a).wrapping_mul(low24(b)).wrapping_add(c))
        }
        (TernOp::Mad24Lo, Ty::S32) => {
            map3(r, active, s, |a: i32, b: i32, c: i32| signed24(a).wrapping_mul(signed24(b)).wrapping_add(c))
        }
        // The funnel: (b, a) as 64 bits, b high.
        (TernOp::ShfLeftWrap, _) => map3(r, active, s, |a: u32, b: u32, c: u32| shift_left(a, b, c & 31)),
        (TernOp::ShfLeftClamp, _) => map3(r, active, s, |a: u32, b: u32, c: u32| shift_left(a, b, Ord::min(c, 32))),
        (TernOp::ShfRightWrap, _) => map3(r, active, s, |a: u32, b: u32, c: u32| shift_right(a, b, c & 31)),
        (TernOp::ShfRightClamp, _) => map3(r, active, s, |a: u32, b: u32, c: u32| shift_right(a, b, Ord::min(c, 32))),
        (TernOp::Prmt, _) => map3(r, active, s, permute),
        (TernOp::SlctS32, _) if ty.is_wide() => map3(r, active, s, |a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
        (TernOp::SlctS32, _) => map3(r, active, s, |a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
        (TernOp::SlctF32, _) if ty.is_wide() => {
            map3(r, active, s, |a: u64, b: u64, c: f32| if c >= 0.0 { a } else { b })
        }
        (TernOp::SlctF32, _) => map3(r, active, s, |a: u32, b: u32, c: f32| if c >= 0.0 { a } else { b }),
        (TernOp::Dp4aSS, _) => map3(r, active, s, |a: u32, b: u32, c: u32| dot4(a, b, c, signed_byte, signed_byte)),
        (TernOp::Dp4aSU, _) => map3(r, active, s, |a: u32, b: u32, c: u32| dot4(a, b, c, signed_byte, byte)),
        (TernOp::Dp4aUS, _) => map3(r, active, s, |a: u32, b: u32, c: u32| dot4(a, b, c, byte, signed_byte)),
        (TernOp::Dp4aUU, _) => map3(r, active, s, |a: u32, b: u32, c: u32| dot4(a, b, c, byte, byte)),
        _ => return by_type!(ty, ternary_of(r, active, op, s)),
    };
    Some(done)
}

fn ternary_of<T: Integer>(r: &mut Registers<'_>, active: u32, op: TernOp, s: [Slot; 4]) -> Option<Done> {
    Some(match op {
        TernOp::MadLo => map3(r, active, s, |a: T, b: T, c: T| a.mul(b).add(c)),
        TernOp::MadHi => map3(r, active, s, |a: T, b: T, c: T| a.mul_high(b).add(c)),
        TernOp::Sad => map3(r, active, s, |a: T, b: T, c: T| a.distance(b).add(c)),
        TernOp::Bfe => map3(r, active, s, |a: T, position: u32, length: u32| a.extract(position, length)),
        _ => return None,
    })
}

#[inline(always)]
fn shift_left(low: u32, high: u32, amount: u32) -> u32 {
    let both = (high as u64) << 32 | low as u64;
    ((both << amount) >> 32) as u32
}

#[inline(always)]
fn shift_right(low: u32, high: u32, amount: u32) -> u32 {
    let both = (high as u64) << 32 | low as u64;
    (both >> amount) as u32
}

fn byte(word: u32, i: u32) -> i32 {
    (word >> (8 * i) & 0xff) as i32
}

fn signed_byte(word: u32, i: u32) -> i32 {
    (word >> (8 * i)) as u8 as i8 as i32
}

#[inline(always)]
fn dot4(a: u32, b: u32, c: u32, left: impl Fn(u32, u32) -> i32, right: impl Fn(u32, u32) -> i32) -> u32 {
    (0..4).fold(c, |sum, i| sum.wrapping_add((left(a, i) * right(b, i)) as u32))
}

/// Byte `selector` (0…7) of (b, a); with bit 3, its sign in every bit.
#[inline(always)]
fn pick(both: u64, selector: u32) -> u32 {
    let byte = (both >> (8 * (selector & 7))) as u8;
    let value = if selector & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte };
    value as u32
}

#[inline(always)]
fn permute(a: u32, b: u32, c: u32) -> u32 {
    let both = (b as u64) << 32 | a as u64;
    (0..4).fold(0, |word, i| word | pick(both, c >> (4 * i)) << (8 * i))
}

/// `prmt` with a mode: which bytes each takes, for c's low two bits 0…3 (PTX ISA, prmt, lowest byte first).
pub(super) fn permute_mode(r: &mut Registers<'_>, active: u32, mode: u8, s: [Slot; 4]) -> Done {
    const F4E: [u32; 4] = [0x3210, 0x4321, 0x5432, 0x6543];
    const B4E: [u32; 4] = [0x5670, 0x6701, 0x7012, 0x0123];
    const RC8: [u32; 4] = [0x0000, 0x1111, 0x2222, 0x3333];
    const ECL: [u32; 4] = [0x3210, 0x3211, 0x3222, 0x3333];
    const ECR: [u32; 4] = [0x0000, 0x1110, 0x2210, 0x3210];
    const RC16: [u32; 4] = [0x1010, 0x3232, 0x1010, 0x3232];
    let selectors = match mode {
        1 => F4E,
        2 => B4E,
        3 => RC8,
        4 => ECL,
        5 => ECR,
        _ => RC16,
    };
    map3(r, active, s, move |a: u32, b: u32, c: u32| permute(a, b, selectors[(c & 3) as usize]))
}

pub(super) fn lop3(r: &mut Registers<'_>, active: u32, table: u8, s: [Slot; 4]) -> Done {
    // The tables that compilers write most, then any.
    match table {
        0xc0 => map3(r, active, s, |a: u32, b: u32, _c: u32| a & b),
        0xf8 => map3(r, active, s, |a: u32, b: u32, c: u32| a | (b & c)),
        0xea => map3(r, active, s, |a: u32, b: u32, c: u32| (a & b) | c),
        0x96 => map3(r, active, s, |a: u32, b: u32, c: u32| a ^ b ^ c),
        0xfe => map3(r, active, s, |a: u32, b: u32, c: u32| a | b | c),
        0x80 => map3(r, active, s, |a: u32, b: u32, c: u32| a & b & c),
        0x78 => map3(r, active, s, |a: u32, b: u32, c: u32| a ^ (b & c)),
        0x6a => map3(r, active, s, |a: u32, b: u32, c: u32| (a & b) ^ c),
        _ => {
            let minterm = |i: u32| if table >> i & 1 == 1 { u32::MAX } else { 0 };
            let m: [u32; 8] = std::array::from_fn(|i| minterm(i as u32));
            map3(r, active, s, move |a: u32, b: u32, c: u32| {
                (m[0] & !a & !b & !c)
                    | (m[1] & !a & !b & c)
                    | (m[2] & !a & b & !c)
                    | (m[3] & !a & b & c)
                    | (m[4] & a & !b & !c)
                    | (m[5] & a & !b & c)
                    | (m[6] & a & b & !c)
                    | (m[7] & a & b & c)
            })
        }
    }
}

/// `bfi`: the slots are d, a, b, position, length.
pub(super) fn insert(r: &mut Registers<'_>, active: u32, wide: bool, [d, a, b, position, length]: [Slot; 5]) -> Done {
    r.check(length, active)?;
    let length = *r.narrow(length);
    if wide {
        r.check_wide(a, active)?;
        r.check_wide(b, active)?;
        r.check(position, active)?;
        let (x, y, at) = (r.wide(a), r.wide(b), r.narrow(position));
        let out = std::array::from_fn(|l| {
            let mask = Integer::shl(1u64, length[l] & 0xff).wrapping_sub(1);
            let (mask, at) = (mask, at[l] & 0xff);
            (y[l] & !Integer::shl(mask, at)) | Integer::shl(x[l] & mask, at)
        });
        r.put_wide(d, active, &out);
        return Ok(());
    }
    r.check(a, active)?;
    r.check(b, active)?;
    r.check(position, active)?;
    let (x, y, at) = (r.narrow(a), r.narrow(b), r.narrow(position));
    let mut out = [0; 32];
    for l in 0..32 {
        let mask = Integer::shl(1u32, length[l] & 0xff).wrapping_sub(1);
        let at = at[l] & 0xff;
        out[l] = (y[l] & !Integer::shl(mask, at)) | Integer::shl(x[l] & mask, at);
    }
    r.put(d, active, &out);
    Ok(())
}

/// How an addition or multiplication takes part in the chain of carries.
#[derive(Clone, Copy)]
pub(super) struct Carry {
    pub reads: bool,
    pub writes: bool,
}

/// add, sub with carry; the slots are d, a, b.
pub(super) fn add_carry(
    r: &mut Registers<'_>,
    active: u32,
    wide: bool,
    subtract: bool,
    carry: Carry,
    [d, a, b]: [Slot; 3],
) -> Done {
    let (x, y) = (operand(r, active, wide, a)?, operand(r, active, wide, b)?);
    let mut out = [0u64; 32];
    let mut flags = 0;
    let bits = if wide { 64 } else { 32 };
    for l in 0..32 {
        let extra = (carry.reads && r.carry >> l & 1 == 1) as u128;
        let (x, y) = (x[l] as u128, y[l] as u128);
        // A difference is x + !y + 1, so that its carry says that nothing was borrowed: where a chain mixes additions
        // and subtractions, that is what shows.
        let extra = if carry.reads { extra } else { subtract as u128 };
        let sum = x + if subtract { !y & ((1 << bits) - 1) } else { y } + extra;
        out[l] = sum as u64;
        flags |= ((sum >> bits) as u32 & 1) << l;
    }
    finish_carry(r, active, wide, carry, d, &out, flags);
    Ok(())
}

/// mad.lo, mad.hi with carry; the slots are d, a, b, c.
pub(super) fn mad_carry(
    r: &mut Registers<'_>,
    active: u32,
    ty: Ty,
    high: bool,
    carry: Carry,
    [d, a, b, c]: [Slot; 4],
) -> Done {
    let wide = ty.is_wide();
    let bits = if wide { 64 } else { 32 };
    let (x, y, z) = (operand(r, active, wide, a)?, operand(r, active, wide, b)?, operand(r, active, wide, c)?);
    let mut out = [0u64; 32];
    let mut flags = 0;
    for l in 0..32 {
        let product = match ty {
            Ty::S32 => (x[l] as i32 as i64 * y[l] as i32 as i64) as u128,
            Ty::S64 => (x[l] as i64 as i128 * y[l] as i64 as i128) as u128,
            _ => x[l] as u128 * y[l] as u128,
        };
        let part = if high { product >> bits } else { product } & ((1u128 << bits) - 1);
        let sum = part + z[l] as u128 + (carry.reads && r.carry >> l & 1 == 1) as u128;
        out[l] = sum as u64;
        flags |= ((sum >> bits) as u32 & 1) << l;
    }
    finish_carry(r, active, wide, carry, d, &out, flags);
    Ok(())
}

fn operand(r: &Registers<'_>, active: u32, wide: bool, slot: Slot) -> Result<[u64; 32], Box<crate::fault::BadAccess>> {
    if wide {
        r.check_wide(slot, active)?;
        Ok(*r.wide(slot))
    } else {
        r.check(slot, active)?;
        Ok(r.narrow(slot).map(u64::from))
    }
}

fn finish_carry(r: &mut Registers<'_>, active: u32, wide: bool, carry: Carry, d: Slot, out: &[u64; 32], flags: u32) {
    if wide {
        r.put_wide(d, active, out);
    } else {
        r.put(d, active, &out.map(|x| x as u32));
    }
    if carry.writes {
        r.carry = (r.carry & !active) | (flags & active);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extracts_fields() {
        assert_eq!(0xabcd_1234u32.extract(8, 8), 0x12);
        assert_eq!(0xffu32.extract(4, 0), 0);
        assert_eq!(0xf000_0000u32.extract(28, 200), 0xf);
        assert_eq!(1u32.extract(40, 8), 0);
        assert_eq!(0x80i32.extract(4, 4), -8);
        assert_eq!(i32::MIN.extract(40, 8), -1);
        assert_eq!(i64::MIN.extract(60, 4), -8);
    }

    #[test]
    fn finds_the_top_bit() {
        assert_eq!(0u32.top_bit(), u32::MAX);
        assert_eq!((-1i32).top_bit(), u32::MAX);
        assert_eq!(i32::MIN.top_bit(), 30);
        assert_eq!(1u64.top_bit(), 0);
    }

    #[test]
    fn permutes_bytes() {
        assert_eq!(permute(0x3322_1100, 0x7766_5544, 0x7531), 0x7755_3311);
        assert_eq!(permute(0x8000_0000, 0x0000_007f, 0xbc08), 0xff00_0000);
    }

    #[test]
    fn shifts_beyond_the_width() {
        assert_eq!(Integer::shl(1u32, 32), 0);
        assert_eq!(Integer::shr(-2i32, 99), -1);
        assert_eq!(Integer::shr(u64::MAX, 64), 0);
        assert_eq!(shift_left(0x8000_0000, 1, 1), 3);
        assert_eq!(shift_left(5, 1, 32), 5);
        assert_eq!(shift_right(5, 7, 32), 7);
    }
}
