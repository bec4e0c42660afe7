//! A compiled plan on a GPU: the first pass is queued launch by launch, the second is captured into a graph, and then that is
//! replayed. So passes that never come again (a photo of its own size, a new list of words) are never captured. Passes that are
//! run and passes that are submitted have each a graph of their own: the copies of the latter are queued beside it.

use std::ops::Range;
use std::sync::Arc;

use super::Cuda;
use super::clock::Clock;
use super::compile::{Launches, Target, compile};
use super::driver::{Flight, Memory, Stream};
use super::graph::Graph;
use super::launcher::Launcher;
use super::staging::Staging;
use crate::device::Program;
use crate::error::Result;
use crate::plan::Plan;

/// What a GPU has of a program.
pub struct GpuProgram {
    /// Whose addresses these are: a graph that another device launched would copy to and from freed memory of the host.
    stream: Arc<Stream>,
    launches: Launches,
    /// Where the page-locked memory lay.
    staging: [usize; 2],
    /// [`Cuda::generation`] when the launches were made.
    generation: Option<u64>,
    has_run: bool,
    /// The first input of the next pass is in the arena: it is not the host's.
    pub(super) is_brought: bool,
    /// Of the copies and the operations.
    graph: Option<Graph>,
    /// Of the operations alone.
    operations: Option<Graph>,
    /// Parts that ran, which come again and again: a graph each from the second time on.
    parts: Vec<(Range<usize>, Option<Graph>)>,
}

impl GpuProgram {
    pub(super) fn new(stream: &Arc<Stream>) -> GpuProgram {
        let (stream, launches) = (Arc::clone(stream), Launches::default());
        let (graph, operations) = Default::default();
        let (has_run, is_brought) = Default::default();
        let parts = Vec::new();
        GpuProgram {
            stream,
            launches,
            staging: [0; 2],
            generation: None,
            has_run,
            is_brought,
            graph,
            operations,
            parts,
        }
    }

    pub(super) fn of(program: &mut Program) -> (&Plan, &mut GpuProgram) {
        (&program.plan, program.cuda.as_mut().expect("a program runs on the device that compiled it"))
    }

    /// The launches.
    #[cfg(feature = "bench")]
    pub(super) fn launches(program: &Program) -> &Launches {
        &program.cuda.as_ref().expect("a program runs on the device that compiled it").launches
    }
}

/// Queues the inputs' copies, the launches, the outputs' copies.
fn queue_with_copies(
    staging: &mut Staging,
    arena: &Memory,
    launcher: &mut Launcher,
    (plan, launches): (&Plan, &Launches),
    clock: Option<&mut Clock>,
) -> Result<()> {
    staging.send(plan, arena, false)?;
    launcher.queue(plan, launches, clock)?;
    staging.receive(plan, arena)
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
        assert!(Arc::ptr_eq(&gpu_program.stream, &self.stream), "a program runs on the device that compiled it");
        if gpu_program.generation == Some(self.generation) {
            return Ok(());
        }
        self.reserve(plan)?;
        let mut launches = compile(plan, self.target())?;
        if !self.split_k.holds(launches.workspace_bytes()) {
            self.invalidate_addresses();
            self.split_k.grow(&self.stream, launches.workspace_bytes())?;
            launches = compile(plan, self.target())?;
        }
        let staging = self.staging.addresses();
        if launches != gpu_program.launches {
            (gpu_program.launches, gpu_program.graph, gpu_program.operations) = (launches, None, None);
            gpu_program.parts.clear();
        }
        if staging != gpu_program.staging {
            (gpu_program.staging, gpu_program.graph) = (staging, None);
        }
        gpu_program.generation = Some(self.generation);
        Ok(())
    }

    fn reserve(&mut self, plan: &Plan) -> Result<()> {
        if !self.arena.holds(plan.arena_bytes) {
            self.invalidate_addresses();
            self.arena.grow(plan.arena_bytes)?;
        }
        let has_moved = self.staging.reserve(plan);
        // One way's memory may have moved where the other's could not.
        if !matches!(has_moved, Ok(false)) {
            self.invalidate_addresses();
        }
        has_moved.map(drop)
    }

    /// Addresses that launches hold are true no longer.
    pub(super) fn invalidate_addresses(&mut self) {
        self.generation += 1;
    }

    /// Captures a pass that has run before, unless it is captured already.
    fn capture(&mut self, program: &mut Program) -> Result<()> {
        let (plan, gpu_program) = GpuProgram::of(program);
        if gpu_program.graph.is_none() && gpu_program.has_run {
            let Cuda { staging, arena, launcher, .. } = self;
            let pass = (plan, &gpu_program.launches);
            let queue = || queue_with_copies(staging, arena.memory(), launcher, pass, None);
            gpu_program.graph = Some(Graph::capture(&self.stream, queue)?);
        }
        Ok(())
    }

    /// One pass, from the host's memory to the host's memory, and its times.
    pub(super) fn pass(&mut self, program: &mut Program) -> Result<()> {
        let _flight = Flight::begin(self.stream.context());
        self.wait_for_slots()?;
        self.link(program)?;
        if std::mem::take(&mut GpuProgram::of(program).1.is_brought) {
            return self.pass_of_brought(program);
        }
        let may_replay = self.may_replay();
        if may_replay {
            self.capture(program)?;
        }
        let (plan, gpu_program) = GpuProgram::of(program);
        match gpu_program.graph.as_ref().filter(|_| may_replay) {
            Some(graph) => {
                self.clock.start(true)?;
                graph.launch()?;
                (self.nodes, self.programmatic_edges) = (graph.nodes(), graph.programmatic_edges());
            }
            None => {
                let Cuda { staging, arena, launcher, clock, .. } = self;
                clock.start(false)?;
                let pass = (plan, &gpu_program.launches);
                queue_with_copies(staging, arena.memory(), launcher, pass, Some(clock))?;
                gpu_program.has_run = true;
            }
        }
        self.clock.finish()?;
        self.stream.synchronize()?;
        self.staging.ran(plan);
        self.timed = None;
        self.clock.read()
    }

    /// As [`Cuda::pass`], whose first input is in the arena already. Its copies are queued beside the graph: that of the host's
    /// frames has an upload of this input.
    fn pass_of_brought(&mut self, program: &mut Program) -> Result<()> {
        self.capture_operations(program)?;
        self.clock.start(self.replays_operations(program))?;
        self.staging.send(&program.plan, self.arena.memory(), true)?;
        self.queue_operations(program, None)?;
        self.staging.receive(&program.plan, self.arena.memory())?;
        self.clock.finish()?;
        self.stream.synchronize()?;
        self.staging.ran(&program.plan);
        self.timed = None;
        self.clock.read()
    }

    /// Captures the operations of a pass that has run before, unless they are captured already.
    pub(super) fn capture_operations(&mut self, program: &mut Program) -> Result<()> {
        let (plan, gpu_program) = GpuProgram::of(program);
        if self.may_replay() && gpu_program.operations.is_none() && gpu_program.has_run {
            let launcher = &mut self.launcher;
            let queue = || launcher.queue(plan, &gpu_program.launches, None);
            gpu_program.operations = Some(Graph::capture(&self.stream, queue)?);
        }
        Ok(())
    }

    /// Queues some of a plan's operations: as a graph where the same came before.
    pub(super) fn queue_part(&mut self, program: &mut Program, steps: Range<usize>) -> Result<()> {
        let may_replay = self.may_replay();
        let (plan, gpu_program) = GpuProgram::of(program);
        let known = gpu_program.parts.iter().position(|(part, _)| *part == steps);
        let (launches, parts) = (&gpu_program.launches, &mut gpu_program.parts);
        let Some((_, graph)) = known.filter(|_| may_replay).map(|known| &mut parts[known]) else {
            self.launcher.queue_steps(plan, launches, steps.clone(), Some(&mut self.clock))?;
            if known.is_none() {
                parts.push((steps, None));
            }
            return Ok(());
        };
        if graph.is_none() {
            let launcher = &mut self.launcher;
            let queue = || launcher.queue_steps(plan, launches, steps, None);
            *graph = Some(Graph::capture(&self.stream, queue)?);
        }
        let graph = graph.as_ref().expect("it was captured");
        graph.launch()?;
        (self.nodes, self.programmatic_edges) = (graph.nodes(), graph.programmatic_edges());
        Ok(())
    }

    /// Whether a part is replayed as one.
    pub(super) fn replays_part(&self, program: &Program, steps: &Range<usize>) -> bool {
        let parts = program.cuda.as_ref().map_or(&[][..], |gpu_program| &gpu_program.parts);
        self.may_replay() && parts.iter().any(|(part, _)| part == steps)
    }

    /// Whether a submitted pass is replayed as one.
    pub(super) fn replays_operations(&self, program: &Program) -> bool {
        self.may_replay() && program.cuda.as_ref().is_some_and(|gpu_program| gpu_program.operations.is_some())
    }

    /// Queues a pass without its copies, timed by a slot's clock or the device's own.
    pub(super) fn queue_operations(&mut self, program: &mut Program, clock: Option<&mut Clock>) -> Result<()> {
        let may_replay = self.may_replay();
        let (plan, gpu_program) = GpuProgram::of(program);
        match gpu_program.operations.as_ref().filter(|_| may_replay) {
            Some(graph) => {
                graph.launch()?;
                (self.nodes, self.programmatic_edges) = (graph.nodes(), graph.programmatic_edges());
            }
            None => {
                let clock = clock.unwrap_or(&mut self.clock);
                self.launcher.queue(plan, &gpu_program.launches, Some(clock))?;
                gpu_program.has_run = true;
            }
        }
        Ok(())
    }

    /// Where each step is timed or recorded, no graph is used.
    fn may_replay(&self) -> bool {
        self.launcher.may_replay() && !self.clock.is_recording()
    }
}
