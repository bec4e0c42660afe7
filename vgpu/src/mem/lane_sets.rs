//! The lanes of a warp after a part of them met at a barrier of their own: who is ordered before whom is then kept exactly,
//! lane by lane, until all lanes meet.

use super::order::Kind;
use std::collections::HashMap;

/// Each of `lanes` accessed the bytes of `mask` in the step `step`, the last time at the instruction `at`.
#[derive(Clone, Copy)]
pub(super) struct LaneTouch {
    pub lanes: u32,
    pub mask: u16,
    pub kind: Kind,
    pub step: u32,
    pub at: u32,
}

/// Of one warp, in one of its periods.
pub(super) struct LaneSets {
    /// Each barrier of some lanes begins a new one.
    step: u32,
    /// Of each lane: the step before which another lane's accesses are ordered before its own.
    views: [[u32; 32]; 32],
    lines: HashMap<usize, Vec<LaneTouch>>,
}

impl LaneSets {
    pub fn new() -> Box<LaneSets> {
        Box::new(LaneSets { step: 0, views: [[0; 32]; 32], lines: HashMap::new() })
    }

    /// The lanes of `mask` met.
    pub fn order(&mut self, mask: u32) {
        self.step += 1;
        let mut joined = [0; 32];
        for lane in super::lines::lanes(mask) {
            for (known, other) in joined.iter_mut().zip(self.views[lane]) {
                *known = (*known).max(other);
            }
        }
        super::lines::lanes(mask).for_each(|lane| joined[lane] = self.step);
        super::lines::lanes(mask).for_each(|lane| self.views[lane] = joined);
    }

    /// The lane `me` accesses bytes of the line, as `kind`; `before` gives what is known of the line
    /// from before the first barrier of some lanes. What it meets: the access, and one lane of it.
    pub fn check(
        &mut self,
        line: usize,
        mask: u16,
        me: usize,
        kind: Kind,
        before: impl FnOnce() -> Vec<LaneTouch>,
    ) -> Option<(LaneTouch, u32)> {
        let touches = self.lines.entry(line).or_insert_with(before);
        let view = &self.views[me];
        touches.iter().filter(|t| t.mask & mask != 0 && kind.conflicts(t.kind)).find_map(|t| {
            let others = super::lines::lanes(t.lanes & !(1 << me));
            let unordered = others.filter(|&other| view[other] <= t.step).min();
            unordered.map(|lane| (*t, lane as u32))
        })
    }

    /// It did, as was checked, at the instruction `at`.
    pub fn note(
        &mut self,
        line: usize,
        mask: u16,
        me: usize,
        kind: Kind,
        at: u32,
        before: impl FnOnce() -> Vec<LaneTouch>,
    ) {
        let (lanes, step) = (1 << me, self.step);
        let touches = self.lines.entry(line).or_insert_with(before);
        let same = |t: &&mut LaneTouch| (t.mask, t.kind, t.step, t.at) == (mask, kind, step, at);
        match touches.iter_mut().find(same) {
            Some(t) => t.lanes |= lanes,
            None => {
                // A lane's newer access stands for its older ones of the same bytes.
                touches.retain_mut(|t| {
                    if t.kind == kind && t.mask & !mask == 0 {
                        t.lanes &= !lanes;
                    }
                    t.lanes != 0
                });
                touches.push(LaneTouch { lanes, mask, kind, step, at });
            }
        }
    }
}
