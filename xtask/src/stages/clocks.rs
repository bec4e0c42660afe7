//! clocks.csv: the GPU's clocks, power and temperature five times a second, as long as it lives.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::child;
use super::session::Session;
use crate::Outcome;

pub const FILE: &str = "clocks.csv";
const QUERY: &str = "--query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,clocks_event_reasons.active";
/// Longer than any run.
const LONGEST: Duration = Duration::from_secs(3600);

pub struct Clocks {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<String>>>,
}

impl Clocks {
    pub fn start(session: &Session) -> Outcome<Clocks> {
        let path = session.arguments.out.join(FILE);
        let mut command = Command::new(session.tools.nvidia_smi.as_deref()?);
        command.args([QUERY, "--format=csv", "-lms", "200"]);
        let mut file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            // Through this process, so that the query ends with it, whatever ends it.
            let mut failed = None;
            let done = child::run(&mut command, LONGEST, &stopped, &mut |line| {
                failed = file.write_all(format!("{line}\n").as_bytes()).err().map(|e| e.to_string());
            });
            failed.or_else(|| if stopped.load(Ordering::SeqCst) { None } else { done.failure() })
        });
        Ok(Clocks { stop, thread: Some(thread) })
    }

    /// What went wrong meanwhile.
    pub fn end(mut self) -> Option<String> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take()?;
        thread.join().unwrap_or_else(|_| Some("the thread that wrote it broke down".to_owned()))
    }
}
