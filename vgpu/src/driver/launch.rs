//! Launches: what a real driver refuses at once, the copying of parameters, and the run.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::arguments::Arguments;
use super::attributes::{Attributes, LaunchConfig};
use super::boundary::In;
use super::cluster;
use super::context::Context;
use super::error::{Code, Outcome, fail};
use super::function::Function;
use super::handle::Handle;
use super::module::Loaded;
use super::shape::Shape;
use super::stream::Stream;
use super::work::Work;
use super::{Machine, driver_functions, panic_text};
use crate::exec;
use crate::ir::Kernel;

/// A launch with its parameters' values.
pub struct KernelLaunch {
    pub function: Handle<Function>,
    pub loaded: Arc<Loaded>,
    /// Its place among the program's kernels.
    kernel: usize,
    params: Vec<u8>,
    /// Addresses of the parameters' values in `params`, for the program that asks a graph's node.
    pointers: Vec<usize>,
    pub shape: Shape,
    pub attributes: Attributes,
    cluster: [u32; 3],
    /// Percent; −1: the driver's choice.
    carveout: i32,
}

impl KernelLaunch {
    pub fn kernel(&self) -> &Kernel {
        &self.loaded.program.kernels[self.kernel]
    }

    pub fn pointers(&self) -> &[usize] {
        &self.pointers
    }
}

/// Words of a cooperative launch's workspace: those of the barrier of all its blocks, and room.
const WORKSPACE_WORDS: usize = 16;

/// Registers are an estimate, so that too many of them are no error here; ptxas keeps to launch bounds by itself.
fn note_registers(kernel: &Kernel, shape: Shape, most: u32) {
    let threads: u32 = shape.block.iter().product();
    let needed = kernel.registers.next_multiple_of(8).saturating_mul(threads.next_multiple_of(32));
    if kernel.max_threads.is_none() && needed > most {
        eprintln!(
            "vgpu: note: {} with {threads} threads in a block and about {} registers each needs {needed} of {most}: a GPU \
             may refuse it with 701; __launch_bounds__ tells the compiler",
            kernel.name, kernel.registers
        );
    }
}

/// All blocks of a cooperative launch must be on the device at once.
fn check_cooperative(blocks: u64, most: u64) -> Outcome {
    if blocks > most {
        let what = format!("{blocks} blocks; {most} of them fit the device at once");
        return fail(Code::COOPERATIVE_LAUNCH_TOO_LARGE, what);
    }
    Ok(())
}

impl Machine {
    /// Checks a launch and copies its parameters.
    pub(super) fn prepare(
        &self,
        handle: Handle<Function>,
        shape: Shape,
        attributes: Attributes,
        arguments: &Arguments,
    ) -> Outcome<KernelLaunch> {
        let function = self.functions.get(handle)?;
        shape.check(function.kernel(), function)?;
        let params = arguments.read(function.kernel())?;
        self.check_launch(handle, shape, attributes, params)
    }

    /// The same launch with other attributes.
    pub(super) fn with_attributes(&self, launch: &KernelLaunch, attributes: Attributes) -> Outcome<KernelLaunch> {
        self.check_launch(launch.function, launch.shape, attributes, launch.params.clone())
    }

    fn check_launch(
        &self,
        handle: Handle<Function>,
        shape: Shape,
        attributes: Attributes,
        params: Vec<u8>,
    ) -> Outcome<KernelLaunch> {
        let function = self.functions.get(handle)?;
        let profile = &self.device_of(function.context)?.profile;
        let kernel = function.kernel();
        let cluster = cluster::resolve(function, profile, &shape, &attributes)?;
        if attributes.cooperative {
            check_cooperative(shape.blocks(), cluster::resident_blocks(function, profile, &shape, cluster))?;
        }
        note_registers(kernel, shape, profile.registers_per_block);
        let start = params.as_ptr().expose_provenance();
        Ok(KernelLaunch {
            function: handle,
            loaded: function.loaded.clone(),
            kernel: function.place,
            pointers: kernel.params.iter().map(|param| start + param.offset).collect(),
            params,
            shape,
            // Before compute capability 9.0 kernels of a stream never overlap.
            attributes: Attributes { programmatic: attributes.programmatic && profile.major >= 9, ..attributes },
            cluster,
            carveout: attributes.carveout.map_or(function.carveout, |percent| percent as i32),
        })
    }

    fn launch(
        &mut self,
        function: Handle<Function>,
        given: Handle<Stream>,
        shape: Shape,
        attributes: Attributes,
        arguments: &Arguments,
    ) -> Outcome {
        let stream = self.stream(given)?;
        if self.streams.get(stream)?.context != self.functions.get(function)?.context {
            return fail(Code::INVALID_HANDLE, "kernel and stream belong to different contexts");
        }
        let launch = self.prepare(function, shape, attributes, arguments)?;
        self.submit(stream, Work::Launch(Arc::new(launch)))
    }

    /// Runs it on the context's device; a fault kills the context. `unfinished`: earlier launches that it may overlap; the
    /// answer: those that the next one may.
    pub(super) fn execute_launch(
        &mut self,
        context: Handle<Context>,
        launch: &KernelLaunch,
        unfinished: &[u16],
    ) -> Outcome<Vec<u16>> {
        let workspace = if launch.attributes.cooperative { self.workspace(context)? } else { 0 };
        let device = self.device_of(context)?;
        let loaded = &launch.loaded;
        let kernel = launch.kernel();
        let const_bank = loaded.const_bank(&device.memory)?;
        self.mapped_to_device(device)?;
        let asked = exec::Launch {
            program: &loaded.program,
            kernel,
            constants: &loaded.constants,
            const_bank: &const_bank,
            params: &launch.params,
            grid: launch.shape.grid,
            block: launch.shape.block,
            dynamic_shared: launch.shape.dynamic_shared as usize,
            cluster: launch.cluster,
            unfinished,
            workspace,
        };
        let run = || exec::run(&asked, &device.memory, &device.profile, &device.options).map_err(Box::new);
        let result = catch_unwind(AssertUnwindSafe(run));
        self.mapped_to_host(device)?;
        match result {
            Ok(Ok(exec::Ran { counts, unfinished })) => {
                if let Some(file) = &self.counts {
                    let line = serde_json::json!({
                        "kernel": kernel.name,
                        "device": device.profile.name,
                        "ordinal": device.ordinal,
                        "grid": launch.shape.grid,
                        "block": launch.shape.block,
                        "static_shared": kernel.shared_bytes,
                        "dynamic_shared": launch.shape.dynamic_shared,
                        "registers": kernel.registers,
                        "cluster": launch.cluster,
                        "carveout": launch.carveout,
                        "overlaps": asked.unfinished.len(),
                        "counts": counts,
                    });
                    if let Err(error) = append(file, &line.to_string()) {
                        eprintln!("vgpu: VGPU_COUNTS={}: {error}", file.display());
                    }
                }
                if let Some(context) = self.contexts.find_mut(context) {
                    context.counts = Some((kernel.name.clone(), counts));
                }
                Ok(unfinished)
            }
            Ok(Err(fault)) => {
                let other =
                    fault.address.and_then(|address| self.device_at(address)).filter(|o| o.ordinal != device.ordinal);
                let note = other.map_or_else(String::new, |other| {
                    format!("; that is memory of device {}, the launch is on device {}", other.ordinal, device.ordinal)
                });
                self.fault(context, Code(fault.check.code()), format!("{fault}{note}"))
            }
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                self.fault(context, Code::UNKNOWN, format!("{}: a defect of the virtual GPU: {text}", kernel.name))
            }
        }
    }

    /// Device memory for the barriers of a cooperative launch, as a driver leaves it: zero.
    fn workspace(&mut self, context: Handle<Context>) -> Outcome<u64> {
        let bytes = 4 * WORKSPACE_WORDS;
        let address = match self.contexts.get(context)?.workspace {
            Some(address) => address,
            None => {
                let address = self.reserve(context, bytes)?.unwrap_or_default();
                self.contexts.get_mut(context)?.workspace = Some(address);
                address
            }
        };
        self.device_of(context)?.memory.fill(address, &[0], bytes)?;
        Ok(address)
    }
}

impl Machine {
    /// Ends a context.
    pub(super) fn fault<T>(&mut self, context: Handle<Context>, code: Code, report: String) -> Outcome<T> {
        eprintln!("vgpu: {report}");
        self.kill(context, code, report);
        Err(code.into())
    }
}

fn append(file: &std::path::Path, line: &str) -> std::io::Result<()> {
    writeln!(std::fs::OpenOptions::new().create(true).append(true).open(file)?, "{line}")
}

driver_functions! {
    table table;

    fn cuLaunchKernel(
        machine,
        function: Handle<Function>,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        dynamic_shared: u32,
        stream: Handle<Stream>,
        each: In<usize>,
        extra: In<usize>,
    ) {
        let shape = Shape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], dynamic_shared };
        machine.launch(function, stream, shape, Attributes::default(), &Arguments { each, extra })
    }

    /// A grid whose blocks may wait for each other.
    fn cuLaunchCooperativeKernel(
        machine,
        function: Handle<Function>,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        dynamic_shared: u32,
        stream: Handle<Stream>,
        each: In<usize>,
    ) {
        let shape = Shape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], dynamic_shared };
        let attributes = Attributes { cooperative: true, ..Attributes::default() };
        machine.launch(function, stream, shape, attributes, &Arguments { each, extra: In::null() })
    }

    fn cuLaunchKernelEx(
        machine,
        config: In<LaunchConfig>,
        function: Handle<Function>,
        each: In<usize>,
        extra: In<usize>,
    ) {
        let config = config.read()?;
        machine.launch(function, config.stream, config.shape(), config.attributes()?, &Arguments { each, extra })
    }
}
