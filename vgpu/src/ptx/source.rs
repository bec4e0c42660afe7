//! `.file` and `.loc` → places in the CUDA source that mean something to the kernel's author.

use super::ast::{Function, Position, Statement};
use std::collections::HashMap;

/// Steps from a header outwards; more would be a circle.
const MOST_STEPS: usize = 16;

pub struct Sources {
    /// Place of each file number in the list of files.
    index: HashMap<u64, u32>,
    /// Whether the file of that place comes with the toolkit.
    is_toolkit: Vec<bool>,
    /// Where the code at a position was inlined.
    callers: HashMap<Position, Position>,
}

/// Headers of CUDA and of the system: nobody who writes a kernel looks for his mistake there.
fn is_header(path: &str) -> bool {
    let in_include = path.contains("/include/") || path.contains("\\include\\");
    in_include && (!path.ends_with(".cu") && !path.ends_with(".cuh"))
}

impl Sources {
    /// `files` in the order of [`crate::ir::Program::files`].
    pub fn new(files: &[(u64, &str)], functions: &[Function<'_>]) -> Sources {
        let index = files.iter().enumerate().map(|(place, &(number, _))| (number, place as u32)).collect();
        let is_toolkit = files.iter().map(|(_, path)| is_header(path)).collect();
        let mut callers = HashMap::new();
        for statement in functions.iter().filter_map(|function| function.body.as_ref()).flatten() {
            if let Statement::Location { at, inlined_at: Some(caller) } = statement {
                callers.insert(*at, *caller);
            }
        }
        Sources { index, is_toolkit, callers }
    }

    /// File and line of a `.loc`: the innermost, unless that is a header of the toolkit: then where it was inlined.
    pub fn place(&self, at: Position, inlined_at: Option<Position>) -> Option<(u32, u32)> {
        let mut position = at;
        let mut caller = inlined_at;
        for _ in 0..MOST_STEPS {
            let file = *self.index.get(&position.0)?;
            match caller {
                Some(outer) if self.is_toolkit.get(file as usize) == Some(&true) => {
                    position = outer;
                    caller = self.callers.get(&outer).copied();
                }
                // Line 0: code of the compiler's own; what came before says more.
                _ => return (position.1 > 0).then_some((file, position.1)),
            }
        }
        None
    }
}
