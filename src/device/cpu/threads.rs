//! How many threads a pool has. With many more than cores the pool's threads look for work most of the time: a frame of 0.1 s
//! took 100 s on 1,024 threads of two cores.

use std::fmt::Display;
use std::io;
use std::thread::available_parallelism;

use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};
use crate::termination::begin_thread;

/// Threads for each core, at most.
const MOST: usize = 4;

/// The variable by which users of rayon, whose pool this is, choose the number.
const VARIABLE: &str = "RAYON_NUM_THREADS";

pub struct Threads {
    pub count: usize,
    /// Where that is less than was asked for.
    pub note: Option<String>,
}

impl Threads {
    /// As many as asked for, else as the environment says, else one a core.
    pub fn of(asked: Option<usize>) -> Threads {
        let cores = available_parallelism().map_or(1, |cores| cores.get());
        bounded(asked, std::env::var(VARIABLE).ok().as_deref(), cores)
    }
}

/// A pool of so many threads.
///
/// # Errors
/// [`Error::Io`] where its threads cannot be had.
pub fn pool(count: usize) -> Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(count).spawn_handler(begin("lseg-cpu")).build();
    pool.map_err(|error| refused(&error))
}

/// How a pool's threads begin, one after the other. Their names begin with `name`.
fn begin(name: &str) -> impl Fn(ThreadBuilder) -> io::Result<()> + use<'_> {
    move |thread| begin_thread(format!("{name}-{}", thread.index()), || thread.run())
}

/// The error for threads that cannot be had.
pub fn refused(error: &impl Display) -> Error {
    Error::io("start", "the CPU threads".as_ref(), io::Error::other(format!("{error}; try fewer with --threads")))
}

/// Makes the pool that rayon would make by itself for work beside an engine's (decoding, masks): of no more threads than are
/// good, and with an error where rayon would panic. For programs, to be called once; a library's program may have its own.
///
/// # Errors
/// [`Error::Io`] where its threads cannot be had.
pub fn make_shared_pool() -> Result<()> {
    let pool = ThreadPoolBuilder::new().num_threads(Threads::of(None).count).spawn_handler(begin("lseg"));
    pool.build_global().map_err(|error| refused(&error))
}

fn bounded(asked: Option<usize>, variable: Option<&str>, cores: usize) -> Threads {
    let from_variable = variable.and_then(|text| text.parse().ok());
    let asked = asked.or(from_variable).filter(|threads| *threads > 0).unwrap_or(cores);
    let count = asked.min(MOST.saturating_mul(cores));
    let note = (count < asked).then(|| {
        format!(
            "{asked} threads were asked for; {count} run, {MOST} for each core of this machine, more would be slower"
        )
    });
    Threads { count, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_four_threads_a_core() {
        for (asked, variable, cores, count, is_noted) in [
            (None, None, 2, 2, false),
            (Some(8), None, 2, 8, false),
            (Some(9), None, 2, 8, true),
            (Some(1024), Some("3"), 2, 8, true),
            (Some(0), None, 2, 2, false),
            (None, Some("3"), 2, 3, false),
            (None, Some("100000"), 16, 64, true),
            (None, Some("0"), 16, 16, false),
            (None, Some("many"), 16, 16, false),
            (Some(usize::MAX), None, 1, 4, true),
        ] {
            let threads = bounded(asked, variable, cores);
            assert_eq!((threads.count, threads.note.is_some()), (count, is_noted), "{asked:?} {variable:?} {cores}");
        }
    }
}
