//! What the lanes of a warp and the warps of a block do together.

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
