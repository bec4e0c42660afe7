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
    pub carveout: i32,
    pub clusters: ClusterAttributes,
}

/// What the program set about the kernel's clusters.
#[derive(Clone, Copy, Default)]
pub struct ClusterAttributes {
    must_be_given: bool,
    /// Width, height, depth; all 0: not set.
    required: [u32; 3],
    pub non_portable: bool,
    /// CUclusterSchedulingPolicy: a hint.
    policy: i32,
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
        Function { context, module, loaded, place, name, dynamic_limit, carveout: -1, clusters: Default::default() }
    }

    /// The one size of its clusters: of its code, or as the program set it.
    pub fn required_cluster(&self) -> Option<[u32; 3]> {
        self.kernel().required_cluster.or(Some(self.clusters.required).filter(|required| *required != [0; 3]))
    }

    pub fn must_be_given_clusters(&self) -> bool {
        self.clusters.must_be_given || self.kernel().explicit_cluster
    }

    pub fn kernel(&self) -> &Kernel {
        &self.loaded.program.kernels[self.place]
    }
}

/// CUfunction_attribute
const MAX_DYNAMIC_SHARED: u32 = 8;
const CARVEOUT: u32 = 9;
const CLUSTER_MUST_BE_SET: u32 = 10;
const CLUSTER_WIDTH: u32 = 11;
const CLUSTER_DEPTH: u32 = 13;
const NON_PORTABLE_CLUSTER: u32 = 14;
const CLUSTER_POLICY: u32 = 15;

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
        CLUSTER_MUST_BE_SET => i32::from(function.must_be_given_clusters()),
        CLUSTER_WIDTH..=CLUSTER_DEPTH => {
            let required = kernel.required_cluster.unwrap_or(function.clusters.required);
            required[(number - CLUSTER_WIDTH) as usize] as i32
        }
        NON_PORTABLE_CLUSTER => i32::from(function.clusters.non_portable),
        CLUSTER_POLICY => function.clusters.policy,
        16 | 17 => 0, // shared-memory modes
        _ => return None,
    })
}

impl Machine {
    fn set_attribute(&mut self, handle: Handle<Function>, number: u32, value: i32) -> Outcome {
        if (CLUSTER_MUST_BE_SET..=CLUSTER_POLICY).contains(&number) {
            return self.set_cluster_attribute(handle, number, value);
        }
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

impl Machine {
    fn set_cluster_attribute(&mut self, handle: Handle<Function>, number: u32, value: i32) -> Outcome {
        let profile = &self.device_of(self.functions.get(handle)?.context)?.profile;
        if profile.gpcs.is_empty() {
            let (major, minor) = (profile.major, profile.minor);
            let what = format!("function attribute {number}: compute capability {major}.{minor} has no clusters");
            return fail(Code::INVALID_VALUE, what);
        }
        let function = self.functions.get_mut(handle)?;
        let fixed = function.kernel().required_cluster;
        let clusters = &mut function.clusters;
        match (number, value) {
            (CLUSTER_WIDTH..=CLUSTER_DEPTH, 0..) if fixed.is_some() => {
                let what = "the kernel was compiled for a cluster size, which cannot be changed";
                return fail(Code::NOT_PERMITTED, what);
            }
            (CLUSTER_WIDTH..=CLUSTER_DEPTH, 0..) => {
                clusters.required[(number - CLUSTER_WIDTH) as usize] = value as u32;
            }
            (CLUSTER_MUST_BE_SET, 0 | 1) => clusters.must_be_given = value != 0,
            (NON_PORTABLE_CLUSTER, 0 | 1) => clusters.non_portable = value != 0,
            (CLUSTER_POLICY, 0..=2) => clusters.policy = value,
            _ => return fail(Code::INVALID_VALUE, format!("function attribute {number} cannot be {value}")),
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
