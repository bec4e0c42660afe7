//! The groups of processes that are running, so that an interruption ends them all.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The groups that are running, for whoever has to end them all.
static GROUPS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every process; those that would be started after it are not.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
    let groups = GROUPS.lock().map(|groups| groups.clone()).unwrap_or_default();
    groups.into_iter().for_each(kill);
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// A group that runs from now on.
pub fn begin(group: u32) {
    if let Ok(mut groups) = GROUPS.lock() {
        groups.insert(group);
    }
}

/// One that is over.
pub fn end(group: u32) {
    if let Ok(mut groups) = GROUPS.lock() {
        groups.remove(&group);
    }
}

/// The shell's own `kill` is everywhere; a program of that name is not.
pub fn kill(group: u32) {
    let script = format!("kill -s KILL -- -{group}");
    let quiet = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if let Err(reason) = quiet {
        eprintln!("error: process group {group} could not be ended: sh: {reason}");
    }
}
