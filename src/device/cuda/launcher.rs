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
    #[cfg(feature = "bench")]
    pub(super) probe: Probe,
}

impl Launcher {
    pub fn new(stream: &Arc<Stream>, library: Arc<Library>) -> Launcher {
        Launcher {
            stream: Arc::clone(stream),
            library,
            #[cfg(feature = "bench")]
            probe: Probe::default(),
        }
    }

    /// Queues a plan's launches one by one, each step's behind its event where a clock times them.
    pub fn queue(&mut self, plan: &Plan, launches: &Launches, clock: Option<&mut Clock>) -> Result<()> {
        self.queue_steps(plan, launches, 0..plan.steps.len(), clock)
    }

    /// As [`Launcher::queue`], of some steps.
    pub fn queue_steps(
        &mut self,
        plan: &Plan,
        launches: &Launches,
        steps: Range<usize>,
        mut clock: Option<&mut Clock>,
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
                self.stream.launch(self.library.function(launch.kernel), launch.grid, launch.params(), false)?;
                #[cfg(feature = "bench")]
                self.probe.note(&self.stream, &self.library, launch)?;
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
