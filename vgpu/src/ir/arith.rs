//! Arithmetic, comparison and logic.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnOp {
    Neg,
    Abs,
    Not,
    /// 1 if zero, else 0.
    Cnot,
    Clz,
    Popc,
    Brev,
    /// Position of the highest set bit (or the highest that differs from the sign), 0xffffffff if none.
    Bfind,
    /// `bfind.shiftamt`: how far to shift left to bring it to the top.
    BfindShift,
    Sqrt,
    SqrtApprox,
    RsqrtApprox,
    Rcp,
    RcpApprox,
    Ex2Approx,
    Lg2Approx,
    SinApprox,
    CosApprox,
    TanhApprox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinOp {
    Add,
    Sub,
    /// `.sat` of s32.
    AddSat,
    SubSat,
    MulLo,
    MulHi,
    /// `ty` is the operands'; the result is twice as wide.
    MulWide,
    Mul24Lo,
    Div,
    DivApprox,
    DivFull,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    /// Amounts beyond the width clamp.
    Shl,
    Shr,
    /// b's magnitude with a's sign.
    CopySign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TernOp {
    /// float: fused; integer: the low half of a·b + c.
    MadLo,
    MadHi,
    /// `mad.hi.sat.s32`
    MadHiSat,
    /// `ty` is that of a and b; c and the result are twice as wide.
    MadWide,
    Mad24Lo,
    Fma,
    /// |a − b| + c
    Sad,
    /// bfe: a, position, length
    Bfe,
    ShfLeftWrap,
    ShfLeftClamp,
    ShfRightWrap,
    ShfRightClamp,
    /// Default mode: c selects bytes of (b, a).
    Prmt,
    /// c ≥ 0 ? a : b, `ty` of a and b; c is s32.
    SlctS32,
    SlctF32,
    Dp4aSS,
    Dp4aSU,
    Dp4aUS,
    Dp4aUU,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Unordered forms: true if an operand is NaN.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    /// Both are numbers.
    Num,
    /// One is NaN.
    Nan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    And,
    Or,
    Xor,
}
