//! Launches: what a real driver refuses at once, the copying of parameters, and the run.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::boundary::{Host, In};
use super::context::Context;
use super::error::{Code, Outcome, fail};
use super::function::Function;
use super::handle::Handle;
use super::module::Loaded;
use super::stream::Stream;
use super::work::Work;
use super::{Machine, driver_functions, panic_text};
use crate::exec;
use crate::ir::Kernel;

/// A launch with its parameters' values.
pub struct KernelLaunch {
    loaded: Arc<Loaded>,
    /// Its place among the program's kernels.
    kernel: usize,
    params: Vec<u8>,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
}

/// The two ways in which C hands over parameters: a pointer for each, or a buffer with all of them.
struct Arguments {
    each: In<usize>,
    extra: In<usize>,
}

const MAX_GRID: [u32; 3] = [i32::MAX as u32, 65535, 65535];
const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
const MAX_THREADS: u64 = 1024;

/// CU_LAUNCH_PARAM_*: keys of the `extra` list.
const PARAM_END: usize = 0;
const PARAM_BUFFER: usize = 1;
const PARAM_SIZE: usize = 2;

/// CUlaunchConfig
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaunchConfig {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    stream: Handle<Stream>,
    attributes: usize,
    attribute_count: u32,
}

/// CUlaunchAttribute: the kind, then 64 bytes of value.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct LaunchAttribute {
    id: u32,
    _padding: u32,
    value: [u32; 16],
}

const ATTRIBUTE_COOPERATIVE: u32 = 2;
const ATTRIBUTE_CLUSTER_DIMENSION: u32 = 4;

impl Shape {
    fn check(&self, kernel: &Kernel, function: &Function) -> Outcome {
        for ((name, sizes), most) in [("grid", self.grid), ("block", self.block)].into_iter().zip([MAX_GRID, MAX_BLOCK])
        {
            if sizes.contains(&0) || sizes.iter().zip(most).any(|(&size, most)| size > most) {
                let what = format!("{} with {name} {sizes:?}: each size must be 1 to {most:?}", kernel.name);
                return fail(Code::INVALID_VALUE, what);
            }
        }
        let threads: u64 = self.block.iter().map(|&size| u64::from(size)).product();
        if threads > MAX_THREADS {
            let what =
                format!("{} with block {:?}: {threads} threads, the most are {MAX_THREADS}", kernel.name, self.block);
            return fail(Code::INVALID_VALUE, what);
        }
        if let Some(most) = kernel.max_threads.filter(|&most| threads > u64::from(most)) {
            let what = format!("{} with {threads} threads in a block: it was compiled for at most {most}", kernel.name);
            return fail(Code::LAUNCH_OUT_OF_RESOURCES, what);
        }
        if let Some(required) = kernel.required_threads.filter(|&required| required != self.block) {
            let what = format!("{} with block {:?}: it was compiled for exactly {required:?}", kernel.name, self.block);
            return fail(Code::INVALID_VALUE, what);
        }
        if self.dynamic_shared as usize > function.dynamic_limit {
            let what = format!(
                "{} with {} bytes of dynamic shared memory: {} are allowed; more must be asked for with \
                 CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
                kernel.name, self.dynamic_shared, function.dynamic_limit
            );
            return fail(Code::INVALID_VALUE, what);
        }
        Ok(())
    }
}

impl Arguments {
    /// The parameter block of a kernel.
    fn read(&self, kernel: &Kernel) -> Outcome<Vec<u8>> {
        if !self.extra.is_null() {
            return self.read_buffer(kernel);
        }
        if self.each.is_null() && !kernel.params.is_empty() {
            let what = format!("{} takes {} parameters, none is given", kernel.name, kernel.params.len());
            return fail(Code::INVALID_VALUE, what);
        }
        let mut block = vec![0; kernel.param_bytes];
        for (i, param) in kernel.params.iter().enumerate() {
            let value = Host::at_address(self.each.at(i)?);
            if value.is_null() {
                let what = format!("{}: the pointer to parameter {i} of {} is null", kernel.name, kernel.params.len());
                return fail(Code::INVALID_VALUE, what);
            }
            block[param.offset..param.offset + param.size].copy_from_slice(&value.read(param.size)?);
        }
        Ok(block)
    }

    fn read_buffer(&self, kernel: &Kernel) -> Outcome<Vec<u8>> {
        let (mut buffer, mut size) = (0, 0);
        // The list has at most these two entries and the end.
        for i in 0..3 {
            match self.extra.at(2 * i)? {
                PARAM_END => break,
                PARAM_BUFFER => buffer = self.extra.at(2 * i + 1)?,
                PARAM_SIZE => size = In::<usize>::from(Host::at_address(self.extra.at(2 * i + 1)?)).read()?,
                key => return fail(Code::INVALID_VALUE, format!("key {key} in `extra` is not known")),
            }
        }
        if size != kernel.param_bytes {
            let what = format!("{}: {size} bytes of parameters given, it takes {}", kernel.name, kernel.param_bytes);
            return fail(Code::INVALID_VALUE, what);
        }
        Host::at_address(buffer).read(size)
    }
}

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

impl Machine {
    fn launch(
        &mut self,
        function: Handle<Function>,
        given: Handle<Stream>,
        shape: Shape,
        arguments: &Arguments,
    ) -> Outcome {
        let stream = self.stream(given)?;
        let function = self.functions.get(function)?;
        if self.streams.get(stream)?.context != function.context {
            return fail(Code::INVALID_HANDLE, "kernel and stream belong to different contexts");
        }
        let kernel = function.kernel();
        shape.check(kernel, function)?;
        let params = arguments.read(kernel)?;
        note_registers(kernel, shape, self.device_of(function.context)?.profile.registers_per_block);
        let launch = KernelLaunch { loaded: function.loaded.clone(), kernel: function.place, params, shape };
        self.submit(stream, Work::Launch(Arc::new(launch)))
    }

    /// All blocks of a cooperative launch must be on the device at once.
    fn check_cooperative(&self, function: Handle<Function>, shape: Shape) -> Outcome {
        let function = self.functions.get(function)?;
        let threads: u32 = shape.block.iter().product();
        let profile = &self.device_of(function.context)?.profile;
        let each = profile.blocks_per_multiprocessor(function.kernel(), threads, shape.dynamic_shared as usize);
        let most = u64::from(each) * u64::from(profile.multiprocessors);
        let blocks: u64 = shape.grid.iter().map(|&size| u64::from(size)).product();
        if blocks > most {
            let what = format!("{blocks} blocks; {most} of them fit the device at once");
            return fail(Code::COOPERATIVE_LAUNCH_TOO_LARGE, what);
        }
        Ok(())
    }

    /// Runs it on the context's device; a fault kills the context.
    pub(super) fn execute_launch(&mut self, context: Handle<Context>, launch: &KernelLaunch) -> Outcome {
        let device = self.device_of(context)?;
        let loaded = &launch.loaded;
        let kernel = &loaded.program.kernels[launch.kernel];
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
        };
        let run = || exec::run(&asked, &device.memory, &device.profile, &device.options).map_err(Box::new);
        let result = catch_unwind(AssertUnwindSafe(run));
        self.mapped_to_host(device)?;
        match result {
            Ok(Ok(counts)) => {
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
                        "counts": counts,
                    });
                    if let Err(error) = append(file, &line.to_string()) {
                        eprintln!("vgpu: VGPU_COUNTS={}: {error}", file.display());
                    }
                }
                if let Some(context) = self.contexts.find_mut(context) {
                    context.counts = Some((kernel.name.clone(), counts));
                }
                Ok(())
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
}

impl Machine {
    fn fault(&mut self, context: Handle<Context>, code: Code, report: String) -> Outcome {
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
        machine.launch(function, stream, shape, &Arguments { each, extra })
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
        let handle = function;
        let function = machine.functions.get(handle)?;
        shape.check(function.kernel(), function)?;
        machine.check_cooperative(handle, shape)?;
        machine.launch(handle, stream, shape, &Arguments { each, extra: In::null() })
    }

    /// Clusters of one block; attributes other than that are hints.
    fn cuLaunchKernelEx(
        machine,
        config: In<LaunchConfig>,
        function: Handle<Function>,
        each: In<usize>,
        extra: In<usize>,
    ) {
        let config = config.read()?;
        let shape = Shape { grid: config.grid, block: config.block, dynamic_shared: config.dynamic_shared };
        let attributes = In::<LaunchAttribute>::from(Host::at_address(config.attributes));
        for i in 0..config.attribute_count as usize {
            let attribute = attributes.at(i)?;
            match attribute.id {
                ATTRIBUTE_CLUSTER_DIMENSION if attribute.value[..3] != [1, 1, 1] => {
                    let what = format!("clusters of {:?} blocks are not emulated", &attribute.value[..3]);
                    return fail(Code::NOT_SUPPORTED, what);
                }
                ATTRIBUTE_COOPERATIVE if attribute.value[0] != 0 => machine.check_cooperative(function, shape)?,
                _ => {}
            }
        }
        machine.launch(function, config.stream, shape, &Arguments { each, extra })
    }
}
