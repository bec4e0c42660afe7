//! Parameters of a launch: what the program's pointers lead to, copied.

use super::boundary::{Host, In};
use super::error::{Code, Outcome, fail};
use crate::ir::Kernel;

/// The two ways in which C hands over parameters: a pointer for each, or a buffer with all of them.
pub struct Arguments {
    pub each: In<usize>,
    pub extra: In<usize>,
}

/// CU_LAUNCH_PARAM_*: keys of the `extra` list.
const PARAM_END: usize = 0;
const PARAM_BUFFER: usize = 1;
const PARAM_SIZE: usize = 2;

impl Arguments {
    /// The parameter block of a kernel.
    pub fn read(&self, kernel: &Kernel) -> Outcome<Vec<u8>> {
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
