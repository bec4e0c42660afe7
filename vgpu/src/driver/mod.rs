//! The driver's functions, as C calls them.
//!
//! One lock serialises all of them: a virtual GPU needs no parallel host, and its kernels use every core by themselves.
//! Work is queued (`stream`) and executed when the host waits for it, so that a program that forgot to wait sees poison.
//! Handles are numbers (`handle`); every pointer passes through `boundary`; each function answers with a code
//! (`error`) and, when there is something to say, one line on stderr.

#![allow(unsafe_code)]

mod arguments;
mod attributes;
mod boundary;
mod capture;
mod cluster;
mod context;
mod copy;
mod device;
mod error;
mod event;
mod fatbin;
mod function;
mod graph;
mod graph_nodes;
mod handle;
mod inject;
mod launch;
mod memory;
mod module;
mod occupancy;
mod pool;
mod report;
mod settings;
mod shape;
mod stream;
mod stream_order;
mod symbols;
mod tensor_map;
mod work;

use std::any::Any;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;

use capture::Capture;
use context::Context;
use device::Device;
use error::{Code, Outcome};
use event::Event;
use function::Function;
use graph::{Graph, GraphExec, GraphNode};
use handle::{Handle, Registry};
use inject::{Calls, Order};
use memory::{Allocation, HostBlock};
use module::Module;
use pool::Pool;
use settings::Settings;
use stream::Stream;
use stream_order::StreamOrder;

/// The devices, and all that programs made on them.
struct Machine {
    /// By ordinal; at least one.
    devices: Vec<Device>,
    /// Where each launch's counts are appended.
    counts: Option<PathBuf>,
    /// Calls that fail on order, and the calls so far of those functions.
    fail: Vec<Order>,
    calls: Calls,
    contexts: Registry<Context>,
    modules: Registry<Module>,
    functions: Registry<Function>,
    streams: Registry<Stream>,
    /// Streams behind CU_STREAM_PER_THREAD.
    thread_streams: HashMap<(usize, ThreadId), Handle<Stream>>,
    events: Registry<Event>,
    captures: Registry<Capture>,
    graphs: Registry<Graph>,
    graph_execs: Registry<GraphExec>,
    graph_nodes: Registry<GraphNode>,
    pools: Registry<Pool>,
    /// By their first address.
    allocations: BTreeMap<u64, Allocation>,
    host_blocks: BTreeMap<usize, HostBlock>,
    /// Which memory streams got or give back themselves.
    order: StreamOrder,
}

impl Machine {
    fn new(settings: Settings) -> Machine {
        let mut pools = Registry::new("memory pool", 10, Code::INVALID_VALUE);
        let boards = settings.boards.into_iter().enumerate();
        Machine {
            devices: boards.map(|(ordinal, board)| Device::new(ordinal, board, &mut pools)).collect(),
            counts: settings.counts,
            fail: settings.fail,
            calls: Calls::default(),
            contexts: Registry::new("context", 1, Code::INVALID_CONTEXT),
            modules: Registry::new("module", 2, Code::INVALID_HANDLE),
            functions: Registry::new("function", 3, Code::INVALID_HANDLE),
            streams: Registry::new("stream", 4, Code::INVALID_HANDLE),
            thread_streams: HashMap::new(),
            events: Registry::new("event", 5, Code::INVALID_HANDLE),
            captures: Registry::new("capture", 6, Code::INVALID_HANDLE),
            graphs: Registry::new("graph", 7, Code::INVALID_VALUE),
            graph_execs: Registry::new("executable graph", 8, Code::INVALID_VALUE),
            graph_nodes: Registry::new("graph node", 9, Code::INVALID_VALUE),
            pools,
            allocations: BTreeMap::new(),
            host_blocks: BTreeMap::new(),
            order: StreamOrder::default(),
        }
    }
}

/// The PTX that a fat binary gives a device of this compute capability (80 for 8.0), or why it gives none. For the fuzz target.
#[doc(hidden)]
pub fn fat_binary_ptx(container: &[u8], capability: u32) -> Result<String, String> {
    fatbin::ptx(container, capability).map_err(|failure| failure.message.unwrap_or_default())
}

static MACHINE: Mutex<Option<Machine>> = Mutex::new(None);

thread_local! {
    /// A function of the program runs on this thread, as part of a stream's work.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs a function's body on the machine, after cuInit.
fn enter(name: &str, body: impl FnOnce(&mut Machine) -> Outcome) -> u32 {
    enter_before_init(name, |machine| {
        let machine = machine.as_mut().ok_or(Code::NOT_INITIALIZED)?;
        let hangs = machine.injected(name)?;
        body(machine)?;
        if hangs { machine.hang() } else { Ok(()) }
    })
}

/// The same for functions that may come before cuInit. Panics end here: they must not unwind into C.
fn enter_before_init(name: &str, body: impl FnOnce(&mut Option<Machine>) -> Outcome) -> u32 {
    if IN_CALLBACK.get() {
        eprintln!("vgpu: {name}: called by a host function of a stream, which must not use the driver");
        return Code::NOT_PERMITTED.0;
    }
    let result = catch_unwind(AssertUnwindSafe(|| body(&mut MACHINE.lock().unwrap_or_else(PoisonError::into_inner))));
    match result {
        Ok(Ok(())) => 0,
        Ok(Err(failure)) if failure.code == Code::HUNG => loop {
            // As a driver waits for a GPU that never ends; the lock is free again, so that other contexts live on.
            std::thread::park();
        },
        Ok(Err(failure)) => {
            if let Some(message) = failure.message {
                let code = failure.code.describe().map_or("?", |(name, _)| name.to_str().unwrap_or("?"));
                eprintln!("vgpu: {name}: {message} ({code} {})", failure.code.0);
            }
            failure.code.0
        }
        Err(panic) => {
            eprintln!("vgpu: {name}: a defect of the virtual GPU: {}", panic_text(panic.as_ref()));
            Code::UNKNOWN.0
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or("panic")
}

/// Writes driver functions: `fn cuName(machine, arg: Type, …) { body }`, the body giving an [`Outcome`]. Also a function
/// `$table` that lists them, for cuGetProcAddress.
macro_rules! driver_functions {
    (table $table:ident; $($(#[$doc:meta])* fn $name:ident($machine:ident $(, $arg:ident: $ty:ty)* $(,)?) $body:block)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// Pointers are null or valid for what the CUDA driver's documentation says is read or written through them.
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, clippy::too_many_arguments)]
            pub unsafe extern "C" fn $name($($arg: $ty),*) -> u32 {
                $crate::driver::enter(stringify!($name), |$machine| -> $crate::driver::error::Outcome { $body })
            }
        )*

        pub(super) fn $table() -> Vec<(&'static str, *const ())> {
            vec![$((stringify!($name), $name as *const ())),*]
        }
    };
}
use driver_functions;
