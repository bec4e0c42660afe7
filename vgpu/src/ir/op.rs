//! One instruction's work.

use super::arith::{BinOp, Cmp, Logic, TernOp, UnOp};
use super::hopper::{Bulk, ClusterBarrier, GridDependency, Mbarrier, ProxyFence, Wgmma};
use super::memory::{Address, AtomOp, Order, Scope, Space};
use super::mma::Mma;
use super::special::Special;
use super::value::{Condition, Mode, Pred, Slot, Ty};
use super::warp::{BarrierKind, ReduxOp, ShflMode, VoteMode};

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

    Mbarrier(Box<Mbarrier>),
    Bulk(Box<Bulk>),
    /// Closes the thread's group of bulk copies.
    BulkCommit,
    /// Waits until at most `pending` of the newest groups are unfinished; `read`: until their sources were read.
    BulkWait {
        pending: u32,
        read: bool,
    },
    /// `prefetch.tensormap`
    PrefetchMap {
        space: Space,
        a: Address,
    },
    Wgmma(Box<Wgmma>),
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait {
        pending: u32,
    },
    ProxyFence(ProxyFence),
    ClusterBarrier(ClusterBarrier),
    /// `mapa`: the address, as block `rank` of the cluster has it, in cluster addresses (`wide`: generic, 64 bits).
    Mapa {
        wide: bool,
        d: Slot,
        a: Slot,
        rank: Slot,
    },
    /// Which block of the cluster an address belongs to (`wide`: of a generic one).
    GetCtaRank {
        wide: bool,
        d: Slot,
        a: Slot,
    },
    /// `st.async`, `red.async`: 1, 2 or 4 elements of `ty` to another block, counted at a barrier there.
    StAsync {
        ty: Ty,
        reduce: Option<AtomOp>,
        a: Address,
        b: Box<[Slot]>,
        mbarrier: Address,
    },
    /// `setmaxnreg`
    MaxRegisters {
        count: u32,
        increase: bool,
    },
    GridDependency(GridDependency),

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
    /// `printf`: `format` and `arguments` are generic addresses (64 bits); d = what vprintf returns.
    Printf {
        d: Option<Slot>,
        format: Slot,
        arguments: Slot,
    },
    /// `__assertfail` with its five arguments (addresses of 64 bits; the line, 32 bits).
    AssertFail {
        message: Slot,
        file: Slot,
        line: Slot,
        function: Slot,
    },
    /// Hints that change nothing: prefetch, discard, nanosleep, pmevent.
    Nop,
}

impl Op {
    /// Whether it lets blocks communicate.
    pub fn communicates(&self) -> bool {
        let outside = |space: &Space| matches!(space, Space::Global | Space::Generic);
        match self {
            Op::Atom { space, order, .. } | Op::Ld { space, order, .. } | Op::St { space, order, .. } => {
                outside(space) && order.reaches_blocks()
            }
            Op::Fence { scope } => scope.reaches_blocks(),
            // A reduction is an atomic.
            Op::Bulk(bulk) => bulk.reduce.is_some(),
            _ => false,
        }
    }
}
