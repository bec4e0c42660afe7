//! Spaces, addresses, and how accesses are ordered.

use super::value::Slot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Any window: resolved by the address itself.
    Generic,
    Global,
    Shared,
    /// Shared memory of the cluster: an address of [`crate::mem::SHARED_START`]… is the block's own, that of `mapa` any block's.
    SharedCluster,
    Local,
    /// The kernel's parameters, bytes from 0.
    Param,
    /// `.const` variables, bytes from 0 of the program's constant bank.
    Const,
}

/// Base slot (64 bits, or 32 for shared when `narrow`) plus a constant offset; no base: the offset is the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub base: Option<Slot>,
    pub narrow: bool,
    pub offset: i64,
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
pub enum Scope {
    /// The threads of the block (`.cta`).
    Cta,
    /// Of its cluster.
    Cluster,
    Gpu,
    Sys,
}

impl Scope {
    pub fn reaches_blocks(self) -> bool {
        !matches!(self, Scope::Cta | Scope::Cluster)
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
