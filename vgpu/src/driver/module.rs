//! Modules: PTX or a fat binary in, kernels and variables by name out.

use std::sync::Arc;

use super::boundary::{Host, In, Out, Text};
use super::context::Context;
use super::error::{Code, Failure, Outcome, fail};
use super::fatbin;
use super::function::Function;
use super::handle::Handle;
use super::memory::Allocation;
use super::{Machine, driver_functions};
use crate::ir::{Program, Space};
use crate::mem::GlobalMemory;
use crate::profile::Profile;
use crate::ptx::{self, LoadError};

pub struct Module {
    pub context: Handle<Context>,
    loaded: Arc<Loaded>,
    functions: Vec<Option<Handle<Function>>>,
}

/// A program with its variables in memory. Launches hold on to it.
pub struct Loaded {
    pub program: Program,
    /// The program's constants with the addresses of its variables.
    pub constants: Vec<u32>,
    /// First addresses of the `.global` and `.const` variables, if there are any.
    globals: Option<u64>,
    consts: Option<u64>,
}

impl Loaded {
    /// The `.const` variables as they are now: the program may have written them.
    pub fn const_bank(&self, memory: &GlobalMemory) -> Outcome<Vec<u8>> {
        let mut bank = vec![0; self.program.const_bytes];
        if let Some(address) = self.consts {
            memory.read(address, &mut bank)?;
        }
        Ok(bank)
    }
}

/// JIT options that mean something here, by CUjit_option.
#[derive(Default)]
struct JitLogs {
    info: Log,
    errors: Log,
}

#[derive(Default)]
struct Log {
    buffer: Option<Host>,
    size: usize,
    /// Where the option's value stands: the length written goes there.
    length: Option<Host>,
}

const INFO_LOG: u32 = 3;
const INFO_LOG_SIZE: u32 = 4;
const ERROR_LOG: u32 = 5;
const ERROR_LOG_SIZE: u32 = 6;

impl JitLogs {
    fn read(count: u32, options: &In<u32>, values: Host) -> Outcome<JitLogs> {
        let mut logs = JitLogs::default();
        for i in 0..count as usize {
            let place = values.offset(i * size_of::<usize>());
            let value = In::<usize>::from(place).read()?;
            match options.at(i)? {
                INFO_LOG => logs.info.buffer = Some(Host::at_address(value)),
                ERROR_LOG => logs.errors.buffer = Some(Host::at_address(value)),
                // The size is a 32-bit number in the place of a pointer.
                INFO_LOG_SIZE => (logs.info.size, logs.info.length) = (value as u32 as usize, Some(place)),
                ERROR_LOG_SIZE => (logs.errors.size, logs.errors.length) = (value as u32 as usize, Some(place)),
                _ => {}
            }
        }
        Ok(logs)
    }

    fn finish(&self, error: Option<&str>) -> Outcome {
        self.info.write("")?;
        self.errors.write(error.unwrap_or(""))
    }
}

impl Log {
    fn write(&self, text: &str) -> Outcome {
        let length = text.len().min(self.size.saturating_sub(1));
        if let Some(buffer) = self.buffer.filter(|b| !b.is_null() && self.size > 0) {
            buffer.write(&text.as_bytes()[..length])?;
            buffer.offset(length).write(&[0])?;
        }
        match self.length {
            Some(place) => place.write(&(length as u32).to_ne_bytes()),
            None => Ok(()),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        let code = match error {
            LoadError::Syntax { .. } | LoadError::Unknown { .. } => Code::INVALID_PTX,
            LoadError::Version { .. } => Code::UNSUPPORTED_PTX_VERSION,
            LoadError::Target { .. } => Code::NO_BINARY_FOR_GPU,
        };
        Failure { code, message: Some(format!("PTX: {error}")) }
    }
}

const ELF_MAGIC: &[u8] = b"\x7fELF";

/// The bytes of an image of which only the beginning is known: a fat binary tells its length, a text ends in NUL; of a
/// cubin the first bytes are enough to refuse it.
fn image_bytes(image: Host) -> Outcome<Vec<u8>> {
    if image.is_null() {
        return fail(Code::INVALID_VALUE, "null pointer to the image");
    }
    let mut magic = [0; 4];
    // A text may be shorter than four bytes: read no further than its end.
    for (i, byte) in magic.iter_mut().enumerate() {
        *byte = image.offset(i).read(1)?.first().copied().unwrap_or(0);
        if *byte == 0 {
            break;
        }
    }
    match u32::from_le_bytes(magic) {
        fatbin::MAGIC => fatbin::read(image),
        // Magic, version, pointer to the container.
        fatbin::WRAPPER_MAGIC => fatbin::read(Host::at_address(In::<usize>::from(image.offset(8)).read()?)),
        _ if magic == *ELF_MAGIC => Ok(magic.to_vec()),
        _ => image.text(),
    }
}

/// The version after `.version`, before anything else is looked at: the words of a newer one may be unknown.
fn version(text: &str) -> Option<(u32, u32)> {
    let line = text.lines().map(str::trim_start).find_map(|line| line.strip_prefix(".version"))?;
    let (major, minor) = line.split_whitespace().next()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The PTX text of an image, whatever its form.
fn text(profile: &Profile, image: &[u8]) -> Outcome<String> {
    if image.starts_with(&fatbin::MAGIC.to_le_bytes()) {
        return fatbin::ptx(image, 10 * profile.major + profile.minor);
    }
    if image.starts_with(ELF_MAGIC) {
        return fail(Code::NO_BINARY_FOR_GPU, "the image is a cubin; the virtual GPU runs PTX only");
    }
    match std::str::from_utf8(image) {
        Ok(text) => Ok(text.to_string()),
        Err(_) => fail(Code::INVALID_IMAGE, "the image is neither PTX text, a fat binary nor a cubin"),
    }
}

fn program(profile: &Profile, text: &str) -> Outcome<Program> {
    if let Some(found) = version(text).filter(|&found| found > profile.ptx_version) {
        return Err(LoadError::Version { found, newest: profile.ptx_version }.into());
    }
    let program = ptx::load(text)?;
    if program.target > 10 * profile.major + profile.minor {
        let (target, major, minor) = (program.target, profile.major, profile.minor);
        return Err(LoadError::Target { target, major, minor }.into());
    }
    if program.exact_target && program.target != 10 * profile.major + profile.minor {
        let what = format!(
            "PTX: its target is sm_{}a: of that architecture alone, and the device's compute capability is {}.{}",
            program.target, profile.major, profile.minor
        );
        return fail(Code::NO_BINARY_FOR_GPU, what);
    }
    if let Some(kernel) = program.kernels.iter().find(|k| k.shared_bytes > profile.shared_per_block) {
        let what = format!(
            "PTX: {} uses {} bytes of static shared memory, the most are {}",
            kernel.name, kernel.shared_bytes, profile.shared_per_block
        );
        return fail(Code::INVALID_PTX, what);
    }
    Ok(program)
}

/// Writes a bank's initial values, and into them the addresses of `.global` variables.
fn initialise(
    memory: &GlobalMemory,
    program: &Program,
    space: Space,
    bank: Option<u64>,
    globals: Option<u64>,
) -> Outcome {
    let Some(address) = bank else {
        return Ok(());
    };
    let mut bytes = vec![0; if space == Space::Const { program.const_bytes } else { program.global_bytes }];
    for variable in program.variables.iter().filter(|v| v.space == space) {
        let own = &mut bytes[variable.offset..][..variable.bytes];
        own[..variable.init.len()].copy_from_slice(&variable.init);
        for &(place, offset) in &variable.pointers {
            let pointer = globals.unwrap_or(0) + offset;
            own[place..][..size_of::<u64>()].copy_from_slice(&pointer.to_le_bytes());
        }
    }
    Ok(memory.write(address, &bytes)?)
}

impl Machine {
    /// Device memory for a bank of variables, if it has any.
    pub(super) fn reserve(&mut self, context: Handle<Context>, bytes: usize) -> Outcome<Option<u64>> {
        if bytes == 0 {
            return Ok(None);
        }
        let address = self.device_of(context)?.memory.alloc(bytes)?;
        self.allocations.insert(address, Allocation::of_module(context));
        Ok(Some(address))
    }

    fn load(&mut self, image: &[u8]) -> Outcome<Handle<Module>> {
        let context = self.current()?;
        self.refuse_unsafe("loading a module")?;
        let profile = &self.device_of(context)?.profile;
        let program = program(profile, &text(profile, image)?)?;
        let globals = self.reserve(context, program.global_bytes)?;
        let consts = self.reserve(context, program.const_bytes)?;
        let memory = &self.device_of(context)?.memory;
        initialise(memory, &program, Space::Global, globals, globals)?;
        initialise(memory, &program, Space::Const, consts, globals)?;
        let mut constants = program.constants.clone();
        for &(slot, offset) in &program.relocations {
            let address = globals.unwrap_or(0) + offset;
            constants[slot] = address as u32;
            constants[slot + 1] = (address >> 32) as u32;
        }
        let functions = vec![None; program.kernels.len()];
        let loaded = Arc::new(Loaded { program, constants, globals, consts });
        Ok(self.modules.insert(Module { context, loaded, functions }))
    }

    fn load_logged(&mut self, image: Host, logs: &JitLogs) -> Outcome<Handle<Module>> {
        let result = self.load(&image_bytes(image)?);
        let error = result.as_ref().err().and_then(|failure| failure.message.as_deref());
        logs.finish(error)?;
        result
    }

    fn function(&mut self, handle: Handle<Module>, name: &str) -> Outcome<Handle<Function>> {
        let module = self.modules.get(handle)?;
        self.check_alive(module.context)?;
        let (context, loaded) = (module.context, module.loaded.clone());
        let Some(place) = loaded.program.kernels.iter().position(|k| k.name == name) else {
            let names: Vec<&str> = loaded.program.kernels.iter().map(|k| k.name.as_str()).collect();
            return fail(Code::NOT_FOUND, format!("the module has no kernel {name:?}; it has {}", names.join(", ")));
        };
        if let Some(function) = module.functions[place] {
            return Ok(function);
        }
        let function = Function::new(context, handle, loaded, place, &self.device_of(context)?.profile);
        let function = self.functions.insert(function);
        self.modules.get_mut(handle)?.functions[place] = Some(function);
        Ok(function)
    }

    /// Address and length of a variable.
    fn variable(&self, handle: Handle<Module>, name: &str) -> Outcome<(u64, usize)> {
        let module = self.modules.get(handle)?;
        self.check_alive(module.context)?;
        let loaded = &module.loaded;
        let found = loaded.program.variables.iter().find(|v| v.name == name).and_then(|variable| {
            let bank = if variable.space == Space::Const { loaded.consts } else { loaded.globals };
            Some((bank? + variable.offset as u64, variable.bytes))
        });
        match found {
            Some(found) => Ok(found),
            None => fail(Code::NOT_FOUND, format!("the module has no variable {name:?}")),
        }
    }

    fn unload(&mut self, handle: Handle<Module>) -> Outcome {
        let context = self.modules.get(handle)?.context;
        self.check_alive(context)?;
        self.refuse_unsafe("unloading a module")?;
        self.run_context(context)?;
        let module = self.modules.remove(handle)?;
        self.functions.retain(|f| f.module != handle);
        for address in [module.loaded.globals, module.loaded.consts].into_iter().flatten() {
            self.allocations.remove(&address);
            self.device_of(module.context)?.memory.free(address)?;
        }
        Ok(())
    }
}

driver_functions! {
    table table;

    fn cuModuleLoadData(machine, answer: Out<Handle<Module>>, image: Host) {
        answer.write(machine.load(&image_bytes(image)?)?)
    }

    fn cuModuleLoadDataEx(
        machine,
        answer: Out<Handle<Module>>,
        image: Host,
        count: u32,
        options: In<u32>,
        values: Host,
    ) {
        let logs = JitLogs::read(count, &options, values)?;
        answer.write(machine.load_logged(image, &logs)?)
    }

    fn cuModuleLoadFatBinary(machine, answer: Out<Handle<Module>>, image: Host) {
        answer.write(machine.load(&image_bytes(image)?)?)
    }

    fn cuModuleLoad(machine, answer: Out<Handle<Module>>, name: Text) {
        let name = name.get()?;
        match std::fs::read(&name) {
            Ok(image) => answer.write(machine.load(&image)?),
            Err(error) => fail(Code::FILE_NOT_FOUND, format!("{name}: {error}")),
        }
    }

    fn cuModuleUnload(machine, module: Handle<Module>) {
        machine.unload(module)
    }

    fn cuModuleGetFunction(machine, answer: Out<Handle<Function>>, module: Handle<Module>, name: Text) {
        answer.write(machine.function(module, &name.get()?)?)
    }

    fn cuModuleGetGlobal_v2(machine, address: Out<u64>, bytes: Out<usize>, module: Handle<Module>, name: Text) {
        let (found, length) = machine.variable(module, &name.get()?)?;
        address.write_if_wanted(found);
        bytes.write_if_wanted(length);
        Ok(())
    }

    fn cuModuleGetFunctionCount(machine, count: Out<u32>, module: Handle<Module>) {
        count.write(machine.modules.get(module)?.functions.len() as u32)
    }

    /// CU_MODULE_EAGER_LOADING
    fn cuModuleGetLoadingMode(_machine, mode: Out<u32>) {
        mode.write(1)
    }
}
