//! Programmatic dependent launches: what a block does before and after `griddepcontrol.wait` (CUDA C++ Programming Guide,
//! "Programmatic Dependent Launch and Synchronization").

use super::block::{Cta, Env};
use crate::ir::GridDependency;

/// A block's part.
pub(super) struct Dependency {
    /// The launch may have begun before others ended.
    pub depends: bool,
    /// Warps that waited, and when.
    waited: Vec<(usize, u32)>,
    /// Let dependent launches begin before it had waited itself.
    hurried: bool,
    /// Of all blocks so far: each waited before that.
    pub always_waited: bool,
}

impl Dependency {
    pub fn new(env: &Env<'_>) -> Dependency {
        let depends = !env.launch.unfinished.is_empty();
        Dependency { depends, waited: Vec::new(), hurried: false, always_waited: true }
    }

    pub fn reset(&mut self, env: &Env<'_>) {
        self.depends = !env.launch.unfinished.is_empty();
        self.waited.clear();
        self.hurried = false;
    }

    /// The block ends.
    pub fn end(&mut self) {
        self.always_waited &= !self.depends || (!self.hurried && !self.waited.is_empty());
    }
}

pub(super) fn execute(cta: &mut Cta<'_>, warp: usize, what: GridDependency) {
    match what {
        GridDependency::Wait => {
            let now = cta.shared.clock();
            if !cta.dependency.waited.iter().any(|(other, _)| *other == warp) {
                cta.dependency.waited.push((warp, now));
            }
        }
        GridDependency::LaunchDependents => cta.dependency.hurried |= cta.dependency.waited.is_empty(),
    }
    cta.events += 1;
}

impl Cta<'_> {
    /// Whether a warp's accesses may still meet those of earlier launches.
    pub fn is_early(&self, warp: usize) -> bool {
        let knows = |&(other, time): &(usize, u32)| self.shared.knows_warp(warp, other, time);
        self.dependency.depends && !self.dependency.waited.iter().any(knows)
    }
}
