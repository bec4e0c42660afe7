//! What instructions work on: slots, predicates, types and modifiers.

/// A slot of the warp, or (top bit) of the program's constants; a 64-bit value is named by its first slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub u16);

impl Slot {
    pub const CONSTANT: u16 = 1 << 15;

    pub fn is_constant(self) -> bool {
        self.0 & Self::CONSTANT != 0
    }

    /// Its place among the warp's slots or the constants.
    pub fn index(self) -> usize {
        (self.0 & !Self::CONSTANT) as usize
    }
}

/// A predicate of the warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pred(pub u16);

/// `p` or `!p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub pred: Pred,
    pub negate: bool,
}

/// Types of the instruction set. `B` types decode to the unsigned integer of their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
    E4m3,
    E5m2,
    E4m3x2,
    E5m2x2,
    Tf32,
}

impl Ty {
    /// Bytes in memory.
    pub fn bytes(self) -> usize {
        match self {
            Ty::U8 | Ty::S8 | Ty::E4m3 | Ty::E5m2 => 1,
            Ty::U16 | Ty::S16 | Ty::F16 | Ty::Bf16 | Ty::E4m3x2 | Ty::E5m2x2 => 2,
            Ty::U32 | Ty::S32 | Ty::F32 | Ty::F16x2 | Ty::Bf16x2 | Ty::Tf32 => 4,
            Ty::U64 | Ty::S64 | Ty::F64 => 8,
        }
    }

    /// Whether a register of this type takes two slots.
    pub fn is_wide(self) -> bool {
        self.bytes() == 8
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// To nearest even: the default of float arithmetic.
    Rn,
    Rz,
    Rm,
    Rp,
    /// To nearest, ties away (`cvt.rna`).
    Rna,
    /// To an integral value (`cvt.rni`, …).
    Rni,
    Rzi,
    Rmi,
    Rpi,
}

/// Modifiers of float arithmetic and conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub round: Round,
    /// Subnormal inputs and results become zero of their sign.
    pub ftz: bool,
    pub saturate: bool,
    /// `.relu`
    pub relu: bool,
    /// `.NaN` of min and max: a NaN operand wins.
    pub nan: bool,
}
