//! The sizes of a launch, and what a real driver refuses of them at once.

use super::error::{Code, Outcome, fail};
use super::function::Function;
use crate::ir::Kernel;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
}

const MAX_GRID: [u32; 3] = [i32::MAX as u32, 65535, 65535];
const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
const MAX_THREADS: u64 = 1024;

impl Shape {
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|&size| u64::from(size)).product()
    }

    pub fn check(&self, kernel: &Kernel, function: &Function) -> Outcome {
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
