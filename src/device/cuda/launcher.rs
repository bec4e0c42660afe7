//! Launches go to a device's stream.

use std::ops::Range;
use std::sync::Arc;

use super::clock::Clock;
use super::compile::Launches;
use super::driver::Stream;
use super::modules::Library;
#[cfg(feature = "bench")]
use super::probe::Probe;
use crate::error::Result;
use crate::plan::Plan;

pub struct Launcher {
    pub(super) stream: Arc<Stream>,
    pub(super) library: Arc<Library>,
    /// Kernels may begin before the one before has ended.
    overlaps: bool,
    #[cfg(feature = "bench")]
    pub(super) probe: Probe,
}

impl Launcher {
    pub fn new(stream: &Arc<Stream>, library: Arc<Library>, overlaps: bool) -> Launcher {
        Launcher {
            stream: Arc::clone(stream),
            library,
            overlaps,
            #[cfg(feature = "bench")]
            probe: Probe::default(),
        }
    }

    /// Queues a plan's launches one by one, each step's behind its event where a clock times them.
    pub fn queue(&mut self, plan: &Plan, launches: &Launches, clock: Option<&mut Clock>) -> Result<()> {
        self.queue_steps(plan, launches, 0..plan.steps.len(), clock)
    }

    /// As [`Launcher::queue`], of some steps. Every launch but the first may overlap the one before it: the first follows copies, or
    /// what others have queued, of which nobody knows whether it waits.
    pub fn queue_steps(
        &mut self,
        plan: &Plan,
        launches: &Launches,
        steps: Range<usize>,
        clock: Option<&mut Clock>,
    ) -> Result<()> {
        self.queue_all(plan, launches, steps, clock, false)
    }

    /// As [`Launcher::queue`], right behind another plan's launches, the last of which the first one may overlap, too.
    #[cfg(feature = "bench")]
    pub fn queue_behind(&mut self, plan: &Plan, launches: &Launches) -> Result<()> {
        self.queue_all(plan, launches, 0..plan.steps.len(), None, true)
    }

    fn queue_all(
        &mut self,
        plan: &Plan,
        launches: &Launches,
        steps: Range<usize>,
        mut clock: Option<&mut Clock>,
        mut follows: bool,
    ) -> Result<()> {
        let mut stage = None;
        for (i, step) in steps.clone().zip(&plan.steps[steps]) {
            if let Some(clock) = &mut clock {
                if stage != Some(step.stage) {
                    clock.stage(step.stage)?;
                    stage = Some(step.stage);
                }
                clock.step()?;
            }
            for launch in launches.of_step(i) {
                let function = self.library.function(launch.kernel)?;
                let overlaps = self.overlaps && follows && function.waits();
                follows = true;
                self.stream.launch(function, launch.grid, launch.params(), overlaps)?;
                #[cfg(feature = "bench")]
                self.probe.note(&self.stream, &self.library, launch, overlaps)?;
            }
        }
        Ok(())
    }

    /// Where launches are recorded, no graph is used.
    pub fn may_replay(&self) -> bool {
        #[cfg(feature = "bench")]
        if self.probe.is_recording() {
            return false;
        }
        true
    }
}
