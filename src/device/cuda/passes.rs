//! Which passes come again: the first time a pass runs operation by operation, the second time it is captured, and then it
//! is replayed. So passes that never come again (a photo of its own size, a new list of words) are never captured.

use super::graph::Graph;

/// Graphs kept: as many as the engine keeps sessions.
const GRAPHS: usize = 8;
/// Passes remembered that have run once.
const SEEN: usize = 16;

#[derive(Default)]
pub struct Passes {
    /// Ids of plans that have run once, the newest last.
    seen: Vec<u64>,
    /// The most recently used last.
    captured: Vec<Captured>,
}

struct Captured {
    plan: u64,
    graph: Graph,
    /// It uses weights that may move.
    uses_movable: bool,
}

impl Passes {
    pub fn with_room() -> Passes {
        Passes { seen: Vec::with_capacity(SEEN), captured: Vec::with_capacity(GRAPHS) }
    }

    /// The graph of this plan, which becomes the most recently used.
    pub fn graph(&mut self, plan: u64) -> Option<&Graph> {
        let at = self.captured.iter().position(|captured| captured.plan == plan)?;
        self.captured[at..].rotate_left(1);
        self.captured.last().map(|captured| &captured.graph)
    }

    /// Nodes of the graph used last.
    pub fn nodes(&self) -> usize {
        self.captured.last().map_or(0, |captured| captured.graph.nodes())
    }

    pub fn has_run(&self, plan: u64) -> bool {
        self.seen.contains(&plan)
    }

    pub fn ran(&mut self, plan: u64) {
        if self.has_run(plan) {
            return;
        }
        if self.seen.len() == SEEN {
            self.seen.remove(0);
        }
        self.seen.push(plan);
    }

    pub fn keep(&mut self, plan: u64, graph: Graph, uses_movable: bool) {
        if self.captured.len() == GRAPHS {
            self.captured.remove(0);
        }
        self.captured.push(Captured { plan, graph, uses_movable });
    }

    /// The arena, or a weight that every pass may use, has moved.
    pub fn forget_all(&mut self) {
        self.captured.clear();
    }

    /// A weight of its own allocation has moved.
    pub fn forget_movable(&mut self) {
        self.captured.retain(|captured| !captured.uses_movable);
    }
}
