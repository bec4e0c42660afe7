//! Tensor cores.

use super::value::Slot;

/// What the two factors of `mma` are and how long k is. The result is m16n8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmaKind {
    /// f16, k = 16: a 4 slots, b 2
    F16K16,
    /// f16, k = 8: a 2 slots, b 1
    F16K8,
    Bf16K16,
    Bf16K8,
    /// tf32 k = 8: a 4, b 2; k = 4: a 2, b 1
    Tf32K8,
    Tf32K4,
    /// signed 8-bit integers, k = 32: a 4, b 2; accumulates in s32 (wrapping)
    S8K32,
    E4m3K32,
    E5m2K32,
}

/// What `mma` accumulates in: f32 and s32 take 4 slots, f16 takes 2 (pairs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulator {
    F32,
    F16,
    S32,
}

/// `mma.sync.aligned`: d = a·b + c for the warp.
#[derive(Clone, Debug, PartialEq)]
pub struct Mma {
    pub kind: MmaKind,
    pub acc: Accumulator,
    pub d: Box<[Slot]>,
    pub a: Box<[Slot]>,
    pub b: Box<[Slot]>,
    pub c: Box<[Slot]>,
}
