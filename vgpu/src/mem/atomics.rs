//! What atomic operations compute.

use crate::ir::{AtomOp, Ty};
use half::{bf16, f16};

/// The value after `op` on `old`, all as bit patterns of `ty`. `flush`: float32 sums flush subnormals to zero, as
/// additions in global memory do (PTX manual, `atom`).
pub(crate) fn apply(op: AtomOp, ty: Ty, old: u64, b: u64, c: u64, flush: bool) -> u64 {
    match op {
        AtomOp::Exch => b,
        AtomOp::Cas => {
            if old == b {
                c
            } else {
                old
            }
        }
        AtomOp::And => old & b,
        AtomOp::Or => old | b,
        AtomOp::Xor => old ^ b,
        AtomOp::Inc => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        AtomOp::Dec => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        AtomOp::Add => add(ty, old, b, flush),
        AtomOp::Min => choose(ty, old, b, false),
        AtomOp::Max => choose(ty, old, b, true),
    }
}

fn add(ty: Ty, a: u64, b: u64, flush: bool) -> u64 {
    match ty {
        Ty::F32 => {
            let (a, b) = (f32::from_bits(a as u32), f32::from_bits(b as u32));
            let sum = if flush { flushed(flushed(a) + flushed(b)) } else { a + b };
            u64::from(sum.to_bits())
        }
        Ty::F64 => (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        Ty::F16 => halves(a, b, 1, add_f16),
        Ty::F16x2 => halves(a, b, 2, add_f16),
        Ty::Bf16 => halves(a, b, 1, add_bf16),
        Ty::Bf16x2 => halves(a, b, 2, add_bf16),
        _ => a.wrapping_add(b) & ones(ty.bytes()),
    }
}

/// Float32 has more than twice the bits, so that rounding twice gives what rounding once would.
fn add_f16(a: u16, b: u16) -> u16 {
    f16::from_f32(f16::from_bits(a).to_f32() + f16::from_bits(b).to_f32()).to_bits()
}

fn add_bf16(a: u16, b: u16) -> u16 {
    bf16::from_f32(bf16::from_bits(a).to_f32() + bf16::from_bits(b).to_f32()).to_bits()
}

fn halves(a: u64, b: u64, count: u32, f: impl Fn(u16, u16) -> u16) -> u64 {
    (0..count).map(|i| u64::from(f((a >> (16 * i)) as u16, (b >> (16 * i)) as u16)) << (16 * i)).sum()
}

fn choose(ty: Ty, a: u64, b: u64, larger: bool) -> u64 {
    let b_is_larger = match ty {
        Ty::S32 => (b as i32) > (a as i32),
        Ty::S64 => (b as i64) > (a as i64),
        Ty::S16 => (b as i16) > (a as i16),
        Ty::F32 => f32::from_bits(b as u32) > f32::from_bits(a as u32),
        Ty::F64 => f64::from_bits(b) > f64::from_bits(a),
        _ => b > a,
    };
    if b_is_larger == larger { b } else { a }
}

fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

fn ones(bytes: usize) -> u64 {
    u64::MAX >> (64 - 8 * bytes)
}
