//! A compiled plan on a GPU: the first pass is queued launch by launch, the second is captured into a graph, and then that is
//! replayed. So passes that never come again (a photo of its own size, a new list of words) are never captured.

use std::sync::Arc;

use super::Cuda;
use super::compile::{Launches, Target, compile};
use super::driver::Gpu;
use super::graph::Graph;
use crate::device::Program;
use crate::error::Result;
use crate::plan::Plan;

/// What a GPU has of a program.
pub struct GpuProgram {
    /// Whose addresses these are: a graph that another device launched would copy to and from freed memory of the host.
    gpu: Arc<Gpu>,
    launches: Launches,
    /// Where the page-locked memory lay.
    staging: [usize; 2],
    /// [`Cuda::generation`] when the launches were made.
    generation: Option<u64>,
    has_run: bool,
    graph: Option<Graph>,
}

impl GpuProgram {
    pub(super) fn new(gpu: &Arc<Gpu>) -> GpuProgram {
        let (gpu, launches) = (Arc::clone(gpu), Launches::default());
        GpuProgram { gpu, launches, staging: [0; 2], generation: None, has_run: false, graph: None }
    }

    fn of(program: &mut Program) -> (&Plan, &mut GpuProgram) {
        (&program.plan, program.cuda.as_mut().expect("a program runs on the device that compiled it"))
    }
}

impl Cuda {
    pub(super) fn target(&self) -> Target<'_> {
        Target {
            limits: self.limits,
            arena: self.arena.address(),
            workspace: self.split_k.workspace(),
            weights: Some(&self.weights),
            forced: self.forced,
        }
    }

    /// Memory for passes of the plan, and launches with the addresses that are true now. A graph stays while none has changed.
    pub(super) fn link(&mut self, program: &mut Program) -> Result<()> {
        let (plan, gpu_program) = GpuProgram::of(program);
        assert!(Arc::ptr_eq(&gpu_program.gpu, &self.gpu), "a program runs on the device that compiled it");
        if gpu_program.generation == Some(self.generation) {
            return Ok(());
        }
        self.reserve(plan)?;
        let (launches, staging) = (compile(plan, self.target())?, self.staging.addresses());
        if (&launches, staging) != (&gpu_program.launches, gpu_program.staging) {
            (gpu_program.launches, gpu_program.staging, gpu_program.graph) = (launches, staging, None);
        }
        gpu_program.generation = Some(self.generation);
        Ok(())
    }

    fn reserve(&mut self, plan: &Plan) -> Result<()> {
        if !self.arena.holds(plan.arena_bytes) {
            self.invalidate_addresses();
            self.arena.grow(plan.arena_bytes)?;
        }
        if self.staging.reserve(plan)? {
            self.invalidate_addresses();
        }
        Ok(())
    }

    /// Addresses that launches hold are true no longer.
    pub(super) fn invalidate_addresses(&mut self) {
        self.generation += 1;
    }

    /// Queues the launches one by one, each step's behind its event where times are wanted.
    pub(super) fn queue(&mut self, program: &Program, is_timed: bool) -> Result<()> {
        let launches = &program.cuda.as_ref().expect("a program runs on the device that compiled it").launches;
        let mut stage = None;
        for (i, step) in program.plan.steps.iter().enumerate() {
            if is_timed {
                if stage != Some(step.stage) {
                    self.clock.stage(step.stage)?;
                    stage = Some(step.stage);
                }
                self.clock.step()?;
            }
            for launch in launches.of_step(i) {
                self.gpu.launch(self.library.function(launch.kernel), launch.grid, launch.params())?;
                #[cfg(feature = "bench")]
                self.probe.note(&self.gpu, &self.library, launch)?;
            }
        }
        Ok(())
    }

    /// Queues the inputs' copies, the launches, the outputs' copies.
    fn queue_with_copies(&mut self, program: &Program, is_timed: bool) -> Result<()> {
        self.staging.send(&program.plan, self.arena.memory())?;
        self.queue(program, is_timed)?;
        self.staging.receive(&program.plan, self.arena.memory())
    }

    /// Captures a pass that has run before, unless it is captured already.
    fn capture(&mut self, program: &mut Program) -> Result<()> {
        let (_, gpu_program) = GpuProgram::of(program);
        if gpu_program.graph.is_none() && gpu_program.has_run {
            let gpu = Arc::clone(&self.gpu);
            let graph = Graph::capture(&gpu, || self.queue_with_copies(program, false))?;
            GpuProgram::of(program).1.graph = Some(graph);
        }
        Ok(())
    }

    /// One pass, from the host's memory to the host's memory, and its times.
    pub(super) fn pass(&mut self, program: &mut Program) -> Result<()> {
        self.link(program)?;
        let may_replay = self.may_replay();
        if may_replay {
            self.capture(program)?;
        }
        match GpuProgram::of(program).1.graph.as_ref().filter(|_| may_replay) {
            Some(graph) => {
                self.clock.start(true)?;
                graph.launch()?;
                self.nodes = graph.nodes();
            }
            None => {
                self.clock.start(false)?;
                self.queue_with_copies(program, true)?;
                GpuProgram::of(program).1.has_run = true;
            }
        }
        self.clock.finish()?;
        self.gpu.synchronize()?;
        self.staging.ran(&program.plan);
        self.clock.read()
    }

    /// Where each step is timed or recorded, no graph is used.
    fn may_replay(&self) -> bool {
        #[cfg(feature = "bench")]
        if self.probe.is_recording() {
            return false;
        }
        !self.clock.is_recording()
    }
}
