//! Part of a pass: queued launch by launch the first time, then as a graph of its operations, and waited for.

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
        self.clock.start(self.replays_part(program, &steps))?;
        if begins {
            let is_brought = std::mem::take(&mut GpuProgram::of(program).1.is_brought);
            self.staging.send(&program.plan, self.arena.memory(), is_brought)?;
        }
        self.queue_part(program, steps)?;
        if ends {
            self.staging.receive(&program.plan, self.arena.memory())?;
        }
        self.clock.finish()?;
        self.stream.synchronize()?;
        if ends {
            self.staging.ran(&program.plan);
        }
        self.timed = None;
        self.clock.read()
    }
}
