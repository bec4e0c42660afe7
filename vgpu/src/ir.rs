//! What the decoder makes of a kernel and the executor runs: flat instructions over numbered slots.
//!
//! A *slot* holds one 32-bit value of each of the 32 lanes; narrower values lie zero-extended in it (16-bit floats and
//! integers in the low half). A 64-bit value takes the numbers of two neighbouring slots; the executor keeps it in a row of
//! its own, so that diverged lanes may have 32-bit values under the same numbers. Immediates and addresses of variables
//! are constant slots, equal in every lane, kept once for the program. Predicates have numbers of their own: one bit a
//! lane.
//!
//! Slots are shared by virtual registers whose lives do not overlap; a register that some path reads before it is
//! written lives from the kernel's entry on, so that the executor, which begins with every slot undefined, sees the fault.
//!
//! Aliasing: a destination is the slot of one of the instruction's own sources only in `Mov`, `Un`, `Bin` and `Cvt` whose
//! slots are all single (32-bit), so that lane loops may run in place; its predicate that of a source or of the guard only in
//! `Setp` with one destination, `PredLogic`, `PredMov` and the operations before. Everywhere else, and for 64-bit values
//! always, destinations and sources lie apart, unless the program itself names one register twice.

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    TidX,
    TidY,
    TidZ,
    NtidX,
    NtidY,
    NtidZ,
    CtaidX,
    CtaidY,
    CtaidZ,
    NctaidX,
    NctaidY,
    NctaidZ,
    LaneId,
    WarpId,
    NwarpId,
    SmId,
    NsmId,
    LanemaskEq,
    LanemaskLt,
    LanemaskLe,
    LanemaskGt,
    LanemaskGe,
    Clock,
    /// 64 bits
    Clock64,
    /// 64 bits
    GlobalTimer,
    DynamicSmemSize,
    TotalSmemSize,
    /// Always 0: cluster registers of a grid without clusters, and what a driver may leave to kernels; `%cluster_nctaid` is 1.
    Zero,
    One,
    /// Bytes of shared memory that the system keeps, which lie before the block's own.
    ReservedSmemSize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Any window: resolved by the address itself.
    Generic,
    Global,
    Shared,
    Local,
    /// The kernel's parameters, bytes from 0.
    Param,
    /// `.const` variables, bytes from 0 of the program's constant bank.
    Const,
}

/// How an access to memory is ordered and cached, as far as it changes what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Weak,
    /// `ld.global.nc`: through the read-only path.
    NonCoherent,
    /// `.volatile` (of the widest scope), `.relaxed`: no race with others of its kind inside the scope.
    Relaxed(Scope),
    Acquire(Scope),
    Release(Scope),
    AcquireRelease(Scope),
}

impl Order {
    /// `None`: a weak access, which orders nothing.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Order::Weak | Order::NonCoherent => None,
            Order::Relaxed(s) | Order::Acquire(s) | Order::Release(s) | Order::AcquireRelease(s) => Some(s),
        }
    }

    /// Whether it means something to other blocks.
    pub fn reaches_blocks(self) -> bool {
        self.scope().is_some_and(Scope::reaches_blocks)
    }

    pub fn acquires(self) -> bool {
        matches!(self, Order::Acquire(_) | Order::AcquireRelease(_))
    }

    pub fn releases(self) -> bool {
        matches!(self, Order::Release(_) | Order::AcquireRelease(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    /// compares with b, stores c
    Cas,
    /// old ≥ b ? 0 : old + 1
    Inc,
    /// old = 0 or old > b ? b : old − 1
    Dec,
}

/// Base slot (64 bits, or 32 for shared when `narrow`) plus a constant offset; no base: the offset is the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub base: Option<Slot>,
    pub narrow: bool,
    pub offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteMode {
    All,
    Any,
    Uni,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduxOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
}

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierKind {
    /// `bar.sync`, `barrier.sync.aligned`: the whole warp arrives together, divergence is an error.
    Sync,
    /// `barrier.sync` without `.aligned`: lanes may arrive one by one.
    SyncUnaligned,
    Arrive,
    ArriveUnaligned,
    /// `bar.red.popc.u32`: d = how many threads have the predicate
    RedPopc,
    RedAnd,
    RedOr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The threads of the block (`.cta`), and of its cluster, which is that block.
    Cta,
    Gpu,
    Sys,
}

impl Scope {
    pub fn reaches_blocks(self) -> bool {
        self != Scope::Cta
    }
}

/// One decoded instruction's work. Fields: `d` destination, `a b c` sources.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Copies a slot (`wide`: two). Undefined lanes are copied as such.
    Mov {
        wide: bool,
        d: Slot,
        a: Slot,
    },
    Special {
        what: Special,
        d: Slot,
    },
    /// `mov.b32 d, {lo, hi}` of 16-bit parts.
    Pack16x2 {
        d: Slot,
        parts: [Slot; 2],
    },
    /// `mov.b64 d, {a, b, c, e}` of 16-bit parts.
    Pack16x4 {
        d: Slot,
        parts: [Slot; 4],
    },
    /// `mov.b64 d, {lo, hi}` of 32-bit parts.
    Pack32x2 {
        d: Slot,
        parts: [Slot; 2],
    },
    /// The reverse; `None` is the sink `_`.
    Unpack16x2 {
        d: [Option<Slot>; 2],
        a: Slot,
    },
    Unpack16x4 {
        d: [Option<Slot>; 4],
        a: Slot,
    },
    Unpack32x2 {
        d: [Option<Slot>; 2],
        a: Slot,
    },
    /// `mov.b16 d, {lo, hi}` and back, of 8-bit parts.
    Pack8x2 {
        d: Slot,
        parts: [Slot; 2],
    },
    Unpack8x2 {
        d: [Option<Slot>; 2],
        a: Slot,
    },

    Un {
        op: UnOp,
        ty: Ty,
        mode: Mode,
        d: Slot,
        a: Slot,
    },
    Bin {
        op: BinOp,
        ty: Ty,
        mode: Mode,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Tern {
        op: TernOp,
        ty: Ty,
        mode: Mode,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    /// `ty` is U32 or U64: c's low bits `len` from `position` of b replaced by a's (bfi a, b, pos, len).
    Bfi {
        ty: Ty,
        d: Slot,
        a: Slot,
        b: Slot,
        position: Slot,
        length: Slot,
    },
    /// d = table of (a, b, c), bit by bit.
    Lop3 {
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
        table: u8,
    },
    /// `prmt` with a mode: f4e, b4e, rc8, ecl, ecr, rc16 as 1…6 (0 is the default, a [`TernOp`]).
    PrmtMode {
        mode: u8,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    /// add/sub with carry: `carry_in` reads the warp's carry flags, `carry_out` writes them. U32, S32, U64 or S64.
    AddCarry {
        ty: Ty,
        subtract: bool,
        carry_in: bool,
        carry_out: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    /// mad.lo/hi with carry.
    MadCarry {
        ty: Ty,
        high: bool,
        carry_in: bool,
        carry_out: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Cvt {
        to: Ty,
        from: Ty,
        mode: Mode,
        d: Slot,
        a: Slot,
    },
    /// `cvt.rn.f16x2.f32 d, a, b` and its kind: a to the high half, b to the low. `to` is the pair's type.
    CvtPack {
        to: Ty,
        mode: Mode,
        d: Slot,
        a: Slot,
        b: Slot,
    },

    Setp {
        cmp: Cmp,
        ty: Ty,
        ftz: bool,
        combine: Option<(Logic, Condition)>,
        p: Pred,
        q: Option<Pred>,
        a: Slot,
        b: Slot,
    },
    /// f16x2: one predicate for each half.
    Setp2 {
        cmp: Cmp,
        ty: Ty,
        ftz: bool,
        p: Pred,
        q: Pred,
        a: Slot,
        b: Slot,
    },
    /// d = all ones (or 1.0 when `float`) where true, else 0; f16x2: 1.0 in each half, or 0xffff when not `float`.
    Set {
        cmp: Cmp,
        ty: Ty,
        ftz: bool,
        float: bool,
        combine: Option<(Logic, Condition)>,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Selp {
        wide: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        p: Condition,
    },
    PredLogic {
        op: Logic,
        d: Pred,
        a: Condition,
        b: Condition,
    },
    PredMov {
        d: Pred,
        a: Condition,
    },
    PredConst {
        d: Pred,
        value: bool,
    },

    /// `d.len()` is 1, 2 or 4 elements of `ty`; `None` is the sink. Narrow signed types are sign-extended to 32 bits
    /// (16-bit registers hold the low half).
    Ld {
        space: Space,
        order: Order,
        ty: Ty,
        d: Box<[Option<Slot>]>,
        a: Address,
    },
    St {
        space: Space,
        order: Order,
        ty: Ty,
        a: Address,
        b: Box<[Slot]>,
    },
    /// No `d`: `red`.
    Atom {
        op: AtomOp,
        space: Space,
        order: Order,
        ty: Ty,
        d: Option<Slot>,
        a: Address,
        b: Slot,
        c: Option<Slot>,
    },
    /// Generic address from a window's own (`to_generic`) or back. 64 bits.
    Cvta {
        space: Space,
        to_generic: bool,
        d: Slot,
        a: Slot,
    },
    /// p = a lies in the window.
    Isspacep {
        space: Space,
        p: Pred,
        a: Slot,
    },

    CpAsync {
        bytes: u8,
        dst: Address,
        src: Address,
        src_size: Option<Slot>,
        ignore_src: Option<Condition>,
    },
    CpAsyncCommit,
    /// Waits until at most `pending` of the newest groups are unfinished.
    CpAsyncWait {
        pending: u32,
    },
    CpAsyncWaitAll,
    /// `d.len()` (1, 2 or 4) 8×8 matrices of 16-bit values.
    Ldmatrix {
        transpose: bool,
        d: Box<[Slot]>,
        a: Address,
    },
    Stmatrix {
        transpose: bool,
        a: Address,
        b: Box<[Slot]>,
    },
    Movmatrix {
        d: Slot,
        a: Slot,
    },
    Mma(Box<Mma>),

    Shfl {
        mode: ShflMode,
        d: Slot,
        p: Option<Pred>,
        a: Slot,
        b: Slot,
        c: Slot,
        members: Slot,
    },
    Vote {
        mode: VoteMode,
        d: Pred,
        a: Condition,
        members: Slot,
    },
    Ballot {
        d: Slot,
        a: Condition,
        members: Slot,
    },
    /// `wide`: the compared value has 64 bits. `all`: p = all equal.
    Match {
        all: bool,
        wide: bool,
        d: Slot,
        p: Option<Pred>,
        a: Slot,
        members: Slot,
    },
    Redux {
        op: ReduxOp,
        ty: Ty,
        d: Slot,
        a: Slot,
        members: Slot,
    },
    ActiveMask {
        d: Slot,
    },
    /// One lane of the members is chosen: p true for it, d its number.
    Elect {
        d: Option<Slot>,
        p: Pred,
        members: Slot,
    },

    Barrier {
        kind: BarrierKind,
        id: Slot,
        threads: Option<Slot>,
        d: Option<Slot>,
        p: Option<Pred>,
        a: Option<Condition>,
    },
    BarWarp {
        members: Slot,
    },
    Fence {
        scope: Scope,
    },

    /// To an instruction's index.
    Bra {
        target: u32,
    },
    /// a chooses the target.
    Brx {
        targets: Box<[u32]>,
        a: Slot,
    },
    /// The lane is done (`ret` of a kernel, `exit`).
    Exit,
    Trap,
    /// Hints that change nothing: prefetch, discard, nanosleep, pmevent.
    Nop,
}

impl Op {
    /// Whether it lets blocks talk to each other.
    pub fn communicates(&self) -> bool {
        let outside = |space: &Space| matches!(space, Space::Global | Space::Generic);
        match self {
            Op::Atom { space, order, .. } | Op::Ld { space, order, .. } | Op::St { space, order, .. } => {
                outside(space) && order.reaches_blocks()
            }
            Op::Fence { scope } => scope.reaches_blocks(),
            _ => false,
        }
    }
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

#[derive(Clone, Debug, PartialEq)]
pub struct Inst {
    pub op: Op,
    /// Executed by the lanes for which it holds.
    pub guard: Option<Condition>,
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// Place in the CUDA source: index into [`Program::files`] and line, where `.loc` told.
    pub source: Option<(u32, u32)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Bytes from the start of the parameter block.
    pub offset: usize,
    pub size: usize,
}

/// One `.entry`.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub name: String,
    pub code: Vec<Inst>,
    pub params: Vec<Param>,
    /// Bytes of the whole parameter block.
    pub param_bytes: usize,
    /// Slots and predicates of a warp.
    pub slots: usize,
    pub preds: usize,
    /// Bytes of static shared memory, which lies first; dynamic shared memory follows, aligned to `dynamic_align`.
    pub shared_bytes: usize,
    pub dynamic_align: usize,
    /// Bytes of local memory a thread.
    pub local_bytes: usize,
    /// `.maxntid`, product of the three; `.reqntid` is given exactly.
    pub max_threads: Option<u32>,
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`
    pub min_blocks: Option<u32>,
    /// An estimate of hardware registers a thread: the most 32-bit values alive at once. ptxas decides the truth.
    pub registers: u32,
    /// Whether blocks may talk to each other (global atomics, fences of GPU scope, volatile or relaxed accesses).
    pub communicates: bool,
    /// Guarded instructions, in order, whose guard a parameter alone decides.
    pub decided: Vec<(u32, ParameterTest)>,
}

/// A guard that compares 32 bits of the parameters with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterTest {
    /// Bytes from the start of the parameter block.
    pub offset: usize,
    /// One of the ordered forms.
    pub cmp: Cmp,
    pub signed: bool,
    pub value: u32,
    /// The guard holds where the comparison does not.
    pub negate: bool,
}

impl ParameterTest {
    /// Whether the guard holds in a launch with these parameters; `None`: that is not known.
    pub fn holds(&self, params: &[u8]) -> Option<bool> {
        let bytes = params.get(self.offset..)?.first_chunk::<4>()?;
        let found = u32::from_le_bytes(*bytes);
        let order = if self.signed { (found as i32).cmp(&(self.value as i32)) } else { found.cmp(&self.value) };
        let is_true = match self.cmp {
            Cmp::Eq => order.is_eq(),
            Cmp::Ne => order.is_ne(),
            Cmp::Lt => order.is_lt(),
            Cmp::Le => order.is_le(),
            Cmp::Gt => order.is_gt(),
            Cmp::Ge => order.is_ge(),
            _ => return None,
        };
        Some(is_true != self.negate)
    }
}

/// A `.global` or `.const` variable: where the module's loader put it.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub space: Space,
    pub bytes: usize,
    pub align: usize,
    /// Initial bytes; shorter than `bytes`: the rest is zero. Variables without an initialiser are zero too.
    pub init: Vec<u8>,
    /// Bytes from the start of its bank (all `.global` variables lie in one allocation, `.const` ones in one bank).
    pub offset: usize,
    /// Addresses among the initial bytes: (place in `init`, bytes from the start of the bank of `.global` variables). The
    /// loader writes 8 bytes there: the bank's address plus them.
    pub pointers: Vec<(usize, u64)>,
}

/// A module.
#[derive(Clone, Debug)]
pub struct Program {
    /// `.version` as (major, minor), `.target` as its number (80).
    pub version: (u32, u32),
    pub target: u32,
    pub kernels: Vec<Kernel>,
    pub variables: Vec<Variable>,
    /// Bytes of the two banks of variables.
    pub global_bytes: usize,
    pub const_bytes: usize,
    /// Constant slots (a 64-bit constant takes two, low then high word).
    pub constants: Vec<u32>,
    /// Constants that hold the address of a `.global` variable: (first of two slots, bytes from the bank's start).
    /// The loader adds the bank's address.
    pub relocations: Vec<(usize, u64)>,
    /// Source files of `.file`, by position; `Inst::source` points here.
    pub files: Vec<String>,
}
