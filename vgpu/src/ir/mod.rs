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

mod arith;
mod hopper;
mod memory;
mod mma;
mod op;
mod program;
mod special;
mod value;
mod warp;

pub use arith::{BinOp, Cmp, Logic, TernOp, UnOp};
pub use hopper::{
    Bulk, BulkDirection, BulkReduce, ClusterBarrier, Element, GridDependency, Mbarrier, MbarrierOp, ProxyFence,
    TensorTile, WaitPhase, Wgmma, WgmmaA,
};
pub use memory::{Address, AtomOp, Order, Scope, Space};
pub use mma::{Accumulator, Mma, MmaKind};
pub use op::Op;
pub use program::{Inst, Kernel, Param, ParameterTest, Program, SlotUses, Variable};
pub use special::Special;
pub use value::{Condition, Mode, Pred, Round, Slot, Ty};
pub use warp::{BarrierKind, ReduxOp, ShflMode, VoteMode};
