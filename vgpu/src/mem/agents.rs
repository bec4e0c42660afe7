//! Who accesses a block's shared memory (see [`super::warps`]), and what an access met.

pub(super) const MAX_WARPS: usize = 32;
/// Agents: warps, then bulk copies, then the blocks of a cluster.
pub(super) const AGENTS: usize = 64;
pub(super) const COPIERS: usize = 16;

/// The agent of bulk copies that end at the barrier number `n` of the block; copies to several barriers may share one, which
/// can hide a race, never invent one.
pub(super) fn copier(n: usize) -> usize {
    MAX_WARPS + n % COPIERS
}

/// The agent of all warps of the block of rank `rank` of the cluster, seen from another block.
pub(super) fn peer(rank: usize) -> usize {
    MAX_WARPS + COPIERS + rank % (AGENTS - MAX_WARPS - COPIERS)
}

/// The rank of a [`peer`].
pub(super) fn peer_rank(agent: usize) -> Option<usize> {
    agent.checked_sub(MAX_WARPS + COPIERS)
}

/// An agent in words.
pub(super) fn agent_name(agent: u32) -> String {
    match agent as usize {
        warp if warp < MAX_WARPS => format!("warp {warp}"),
        copy if copy < MAX_WARPS + COPIERS => "a bulk copy".to_string(),
        peer => format!("block {} of the cluster", peer - MAX_WARPS - COPIERS),
    }
}

/// What an access met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    Race {
        agent: u32,
        at: u32,
        wrote: bool,
        mask: u16,
    },
    /// `agent` began the copy at `at`.
    InFlight {
        agent: u32,
        at: u32,
        mask: u16,
    },
}

/// What an asynchronous read met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    Clash(Clash),
    /// `agent` wrote by the generic proxy at `at`.
    Unproxied {
        agent: u32,
        at: u32,
    },
}
