//! log.txt: every command, how it ended, and the end of what it printed.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use super::child::Done;
use crate::Outcome;

pub const FILE: &str = "log.txt";
/// A result file that is larger does not come back from the machine.
pub const MOST_BYTES: usize = 15 << 20;

pub struct Log {
    file: Mutex<(File, usize)>,
    started: Instant,
}

impl Log {
    pub fn create(folder: &Path, started: Instant) -> Outcome<Log> {
        let path = folder.join(FILE);
        let file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Log { file: Mutex::new((file, 0)), started })
    }

    pub fn say(&self, text: &str) {
        let text = format!("[{:7.2}] {text}\n", self.started.elapsed().as_secs_f64());
        let Ok(mut file) = self.file.lock() else { return };
        if file.1 + text.len() > MOST_BYTES {
            return;
        }
        file.1 += text.len();
        if let Err(reason) = file.0.write_all(text.as_bytes()) {
            eprintln!("error: {FILE}: {reason}");
        }
    }

    /// A process that has ended. Both its beginning and its end are known here: one entry.
    pub fn ended(&self, stage: u8, name: &str, command: &str, done: &Done) {
        let how = done.failure().unwrap_or_else(|| "exit code 0".to_owned());
        let entry = format!("stage {stage}, {name}\n  $ {command}\n  {how}, {:.2} s", done.seconds);
        self.say(format!("{entry}\n{}", done.tail.text()).trim_end());
    }
}

/// As one would type it, near enough.
pub fn words(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", name.display(), value?.display())));
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    let program = command.get_program().to_string_lossy().into_owned();
    set.chain([program]).chain(words).collect::<Vec<_>>().join(" ")
}
