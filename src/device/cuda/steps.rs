//! Part of a pass: queued launch by launch, never captured, and waited for.

use std::ops::Range;

use super::Cuda;
use super::driver::Flight;
use super::program::GpuProgram;
use crate::device::Program;
use crate::error::Result;

impl Cuda {
    /// With the plan's inputs where it begins the plan, with its outputs where it ends it.
    pub(super) fn part(&mut self, program: &mut Program, steps: Range<usize>) -> Result<()> {
        let _flight = Flight::begin(self.stream.context());
        self.wait_for_slots()?;
        self.link(program)?;
        let (begins, ends) = (steps.start == 0, steps.end == program.plan.steps.len());
        let Cuda { staging, arena, launcher, clock, .. } = self;
        clock.start(false)?;
        if begins {
            let is_brought = std::mem::take(&mut GpuProgram::of(program).1.is_brought);
            staging.send(&program.plan, arena.memory(), is_brought)?;
        }
        launcher.queue_steps(&program.plan, GpuProgram::launches(program), steps, Some(clock))?;
        if ends {
            staging.receive(&program.plan, arena.memory())?;
        }
        clock.finish()?;
        self.stream.synchronize()?;
        if ends {
            self.staging.ran(&program.plan);
        }
        self.timed = None;
        self.clock.read()
    }
}
