//! What compute capability 9.0 added: asynchronous barriers, bulk copies, warpgroup products, clusters.

use super::arith::BinOp;
use super::memory::{Address, Order, Space};
use super::mma::Accumulator;
use super::value::{Condition, Pred, Slot, Ty};

/// An operation on an `mbarrier` object: 8 bytes of shared memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Mbarrier {
    pub op: MbarrierOp,
    /// `Shared`, `SharedCluster` or `Generic`.
    pub space: Space,
    pub a: Address,
    /// Of arrivals and waits; `.release` and `.acquire` of the block where none is written.
    pub order: Order,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MbarrierOp {
    Init {
        count: Slot,
    },
    Inval,
    ExpectTx {
        bytes: Slot,
    },
    CompleteTx {
        bytes: Slot,
    },
    /// `expect`: bytes of `.expect_tx`. `drop`: the count of later phases sinks too. `no_complete`: must not end the phase.
    /// `state` (64 bits) is what the barrier was before.
    Arrive {
        state: Option<Slot>,
        count: Option<Slot>,
        expect: Option<Slot>,
        drop: bool,
        no_complete: bool,
    },
    /// `may_wait`: `try_wait`.
    Test {
        p: Pred,
        phase: WaitPhase,
        may_wait: bool,
    },
    /// d = arrivals that a state (64 bits) still lacked. It accesses no memory.
    PendingCount {
        d: Slot,
        state: Slot,
    },
    /// `cp.async.mbarrier.arrive`: an arrival once all earlier cp.async of the thread are done. `no_increment`: `.noinc`.
    AfterCopies {
        no_increment: bool,
    },
}

/// Which phase is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitPhase {
    /// That of a state (64 bits) that an arrival returned.
    State(Slot),
    /// `.parity`: the last one of this parity.
    Parity(Slot),
}

/// `cp.async.bulk` and `cp.reduce.async.bulk`, of plain bytes and of tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Bulk {
    pub direction: BulkDirection,
    /// The side in shared memory (not of `Prefetch`).
    pub shared: Option<(Space, Address)>,
    /// The other side: global bytes, a tensor map, or (`SharedToCluster`) the source in this block's shared memory.
    pub other: Address,
    /// Of plain bytes: how many (a multiple of 16).
    pub bytes: Option<Slot>,
    pub tensor: Option<TensorTile>,
    /// Where the bytes are counted: `.mbarrier::complete_tx::bytes`. `None`: `.bulk_group`.
    pub mbarrier: Option<(Space, Address)>,
    /// `.multicast::cluster`: a bit (of 16) for each block that gets the bytes.
    pub multicast: Option<Slot>,
    /// `.reduce`, and the elements' type: of a tensor, that of its map (`None`).
    pub reduce: Option<(BulkReduce, Option<Ty>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkDirection {
    GlobalToShared,
    SharedToGlobal,
    SharedToCluster,
    /// To the L2 cache.
    Prefetch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkReduce {
    Op(BinOp),
    Inc,
    Dec,
}

/// Where in a tensor: coordinates of the box's first element, innermost first.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorTile {
    pub coordinates: Box<[Slot]>,
    /// `.im2col`: its offsets (16 bits each).
    pub im2col: Option<Box<[Slot]>>,
}

/// Elements of a warpgroup product's factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
}

impl Element {
    pub fn bytes(self) -> usize {
        match self {
            Element::F16 | Element::Bf16 => 2,
            Element::Tf32 => 4,
            Element::E4m3 | Element::E5m2 | Element::S8 | Element::U8 => 1,
        }
    }

    /// The k of one product: 32 bytes of a row.
    pub fn depth(self) -> usize {
        32 / self.bytes()
    }
}

/// `wgmma.mma_async.sync.aligned.m64nNk…`: d = a·b (+ d), for four warps.
#[derive(Clone, Debug, PartialEq)]
pub struct Wgmma {
    /// 8 to 256, a multiple of 8.
    pub n: u16,
    pub a_type: Element,
    pub b_type: Element,
    pub acc: Accumulator,
    /// Results: n/2 slots of f32 or s32, n/4 of pairs of f16.
    pub d: Box<[Slot]>,
    /// The same registers as they are read.
    pub c: Box<[Slot]>,
    pub a: WgmmaA,
    /// Descriptor (64 bits).
    pub b: Slot,
    /// `scale-d`: whether d is added.
    pub add: Condition,
    pub negate_a: bool,
    pub negate_b: bool,
    pub transpose_a: bool,
    pub transpose_b: bool,
    /// `.satfinite` of integers.
    pub saturate: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WgmmaA {
    /// Descriptor (64 bits).
    Shared(Slot),
    /// Four slots, laid out as of `mma`.
    Registers(Box<[Slot]>),
}

/// Between the generic and the asynchronous proxy, and other fences of compute capability 9.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFence {
    /// `fence.proxy.async`: which memory.
    Async { shared: bool, global: bool },
    /// `fence.mbarrier_init.release.cluster`
    MbarrierInit,
    /// `fence.proxy.alias` and the like: nothing here has a second name.
    Alias,
}

/// `barrier.cluster.*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterBarrier {
    /// `.arrive`; else `.wait`.
    pub arrive: bool,
    /// `.relaxed`: it orders no memory.
    pub relaxed: bool,
    pub aligned: bool,
}

/// `griddepcontrol`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GridDependency {
    Wait,
    LaunchDependents,
}
