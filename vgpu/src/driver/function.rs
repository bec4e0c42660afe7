//! Kernels by handle, and their attributes.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use super::boundary::Out;
use super::context::Context;
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::module::{Loaded, Module};
use super::{Machine, driver_functions};
use crate::ir::Kernel;
use crate::profile::Profile;

pub struct Function {
    pub context: Handle<Context>,
    pub module: Handle<Module>,
    pub loaded: Arc<Loaded>,
    /// Its place among the program's kernels.
    pub place: usize,
    name: CString,
    /// Bytes of dynamic shared memory that a launch may ask for.
    pub dynamic_limit: usize,
    carveout: i32,
}

impl Function {
    /// With the limit that holds until the program asks for more.
    pub fn new(
        context: Handle<Context>,
        module: Handle<Module>,
        loaded: Arc<Loaded>,
        place: usize,
        p: &Profile,
    ) -> Function {
        let kernel = &loaded.program.kernels[place];
        let dynamic_limit = p.shared_per_block.saturating_sub(kernel.shared_bytes);
        let name = CString::new(kernel.name.clone()).unwrap_or_default();
        Function { context, module, loaded, place, name, dynamic_limit, carveout: -1 }
    }

    pub fn kernel(&self) -> &Kernel {
        &self.loaded.program.kernels[self.place]
    }
}

/// CUfunction_attribute
const MAX_DYNAMIC_SHARED: u32 = 8;
const CARVEOUT: u32 = 9;

fn attribute(function: &Function, p: &Profile, number: u32) -> Option<i32> {
    let kernel = function.kernel();
    let program = &function.loaded.program;
    Some(match number {
        0 => kernel.max_threads.unwrap_or(1024).min(1024) as i32, // MAX_THREADS_PER_BLOCK
        1 => kernel.shared_bytes as i32,                          // SHARED_SIZE_BYTES
        2 => program.const_bytes as i32,                          // CONST_SIZE_BYTES
        3 => kernel.local_bytes as i32,                           // LOCAL_SIZE_BYTES
        4 => kernel.registers as i32,                             // NUM_REGS: an estimate
        5 => program.target as i32,                               // PTX_VERSION
        6 => (10 * p.major + p.minor) as i32,                     // BINARY_VERSION
        7 => 0,                                                   // CACHE_MODE_CA
        MAX_DYNAMIC_SHARED => function.dynamic_limit as i32,
        CARVEOUT => function.carveout,
        10..=17 => 0, // clusters, shared-memory modes
        _ => return None,
    })
}

impl Machine {
    fn set_attribute(&mut self, handle: Handle<Function>, number: u32, value: i32) -> Outcome {
        let most = self.device_of(self.functions.get(handle)?.context)?.profile.shared_per_block_optin;
        let function = self.functions.get_mut(handle)?;
        let fixed = function.kernel().shared_bytes;
        match (number, usize::try_from(value)) {
            (MAX_DYNAMIC_SHARED, Ok(bytes)) if bytes.saturating_add(fixed) <= most => function.dynamic_limit = bytes,
            (MAX_DYNAMIC_SHARED, _) => {
                let what =
                    format!("{value} dynamic and {fixed} static bytes of shared memory; a block has at most {most}");
                return fail(Code::INVALID_VALUE, what);
            }
            (CARVEOUT, _) if (-1..=100).contains(&value) => function.carveout = value,
            (CARVEOUT, _) => return fail(Code::INVALID_VALUE, format!("carveout {value} is not −1 to 100 percent")),
            _ => return fail(Code::INVALID_VALUE, format!("function attribute {number} cannot be set")),
        }
        Ok(())
    }
}

driver_functions! {
    table table;

    fn cuFuncGetAttribute(machine, value: Out<i32>, number: u32, function: Handle<Function>) {
        machine.current()?;
        let function = machine.functions.get(function)?;
        match attribute(function, &machine.device_of(function.context)?.profile, number) {
            Some(found) => value.write(found),
            None => fail(Code::INVALID_VALUE, format!("function attribute {number} is not known")),
        }
    }

    fn cuFuncSetAttribute(machine, function: Handle<Function>, number: u32, value: i32) {
        machine.current()?;
        machine.set_attribute(function, number, value)
    }

    /// A hint.
    fn cuFuncSetCacheConfig(machine, function: Handle<Function>, _config: u32) {
        machine.functions.get(function)?;
        Ok(())
    }

    /// A hint.
    fn cuFuncSetSharedMemConfig(machine, function: Handle<Function>, _config: u32) {
        machine.functions.get(function)?;
        Ok(())
    }

    fn cuFuncGetModule(machine, module: Out<Handle<Module>>, function: Handle<Function>) {
        module.write(machine.functions.get(function)?.module)
    }

    /// Valid until the module is unloaded.
    fn cuFuncGetName(machine, name: Out<*const c_char>, function: Handle<Function>) {
        name.write(machine.functions.get(function)?.name.as_ptr())
    }

    fn cuFuncGetParamInfo(machine, function: Handle<Function>, place: usize, offset: Out<usize>, size: Out<usize>) {
        match machine.functions.get(function)?.kernel().params.get(place) {
            Some(param) => {
                offset.write(param.offset)?;
                size.write_if_wanted(param.size);
                Ok(())
            }
            None => fail(Code::INVALID_VALUE, format!("there is no parameter {place}")),
        }
    }
}
