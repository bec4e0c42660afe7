//! A process in a group of its own, so that a time limit ends it and all that it started.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::group::{self, interrupted};
use super::tail::Tail;

/// How often a process is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);
/// After the end of a process, until its last lines have come through the pipe.
const DRAIN: Duration = Duration::from_secs(2);
/// Longer lines are cut in pieces: a process that prints without end takes no memory without end.
const LONGEST_LINE: u64 = 1 << 20;

pub enum Line {
    Out(String),
    Err(String),
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Exited(i32),
    Signal(i32),
    /// At this many seconds.
    Limit(f64),
    Interrupted,
    NotStarted(String),
}

/// What a process did.
#[derive(Debug)]
pub struct Done {
    pub end: End,
    pub seconds: f64,
    /// The last lines of both its outputs.
    pub tail: Tail,
    /// The last line of its standard error that says something.
    pub last_word: String,
}

impl Done {
    pub fn rc(&self) -> Option<i32> {
        match self.end {
            End::Exited(code) => Some(code),
            _ => None,
        }
    }

    /// In words; `None` for exit code 0.
    pub fn failure(&self) -> Option<String> {
        let said = if self.last_word.is_empty() { String::new() } else { format!(": {}", self.last_word) };
        match &self.end {
            End::Exited(0) => None,
            End::Exited(code) => Some(format!("exit code {code}{said}")),
            End::Signal(signal) => Some(format!("ended by signal {signal}{said}")),
            End::Limit(seconds) => Some(format!("stopped at its limit of {seconds:.1} s{said}")),
            End::Interrupted => Some("interrupted".to_owned()),
            End::NotStarted(reason) => Some(reason.clone()),
        }
    }
}

/// A process that runs.
pub struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    started: Instant,
    tail: Tail,
    last_word: String,
}

impl Child {
    pub fn start(command: &mut Command, stdin: Stdio) -> Result<Child, String> {
        if interrupted() {
            return Err("interrupted".to_owned());
        }
        command.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut process =
            command.spawn().map_err(|e| format!("{} could not be started: {e}", command.get_program().display()))?;
        group::begin(process.id());
        let (sender, lines) = channel();
        if let Some(out) = process.stdout.take() {
            forward(out, sender.clone(), Line::Out);
        }
        if let Some(err) = process.stderr.take() {
            forward(err, sender, Line::Err);
        }
        let stdin = process.stdin.take();
        Ok(Child { process, stdin, lines, started, tail: Tail::default(), last_word: String::new() })
    }

    /// Until it ends, until `limit` after its start or until `stop` is set; each line of its standard output as it
    /// comes.
    pub fn finish(mut self, limit: Duration, stop: &AtomicBool, on_line: &mut dyn FnMut(&str)) -> Done {
        let end = self.wait(limit, stop, on_line);
        // What it started and left behind holds the pipe, and perhaps the GPU.
        group::kill(self.process.id());
        self.drain(on_line);
        Done {
            end,
            seconds: self.started.elapsed().as_secs_f64(),
            tail: std::mem::take(&mut self.tail),
            last_word: std::mem::take(&mut self.last_word),
        }
    }

    fn wait(&mut self, limit: Duration, stop: &AtomicBool, on_line: &mut dyn FnMut(&str)) -> End {
        let stopped = || interrupted() || stop.load(Ordering::SeqCst);
        loop {
            self.take_lines(on_line);
            match self.process.try_wait() {
                Ok(Some(status)) => return if stopped() { End::Interrupted } else { end(status) },
                Ok(None) => {}
                Err(reason) => return End::NotStarted(format!("its end cannot be waited for: {reason}")),
            }
            if stopped() {
                return End::Interrupted;
            }
            if self.started.elapsed() >= limit {
                return End::Limit(limit.as_secs_f64());
            }
        }
    }

    /// Those that come within a moment.
    fn take_lines(&mut self, on_line: &mut dyn FnMut(&str)) {
        let until = Instant::now() + POLL;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.note(line, on_line),
                Err(RecvTimeoutError::Timeout) => return,
                // Both pipes are closed; the process itself is about to end, or not.
                Err(RecvTimeoutError::Disconnected) => {
                    return thread::sleep(until.saturating_duration_since(Instant::now()));
                }
            }
        }
    }

    fn drain(&mut self, on_line: &mut dyn FnMut(&str)) {
        let until = Instant::now() + DRAIN;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.note(line, on_line);
        }
    }

    fn note(&mut self, line: Line, on_line: &mut dyn FnMut(&str)) {
        let (Line::Out(text) | Line::Err(text)) = &line;
        self.tail.push(text);
        match line {
            Line::Out(text) => on_line(&text),
            Line::Err(text) if !text.trim().is_empty() => self.last_word = text.trim().to_owned(),
            Line::Err(_) => {}
        }
    }

    /// Its next line on standard output within `limit`, after `question` has been written to its standard input.
    pub fn ask(&mut self, question: Option<&str>, limit: Duration) -> Result<String, String> {
        if let (Some(question), Some(stdin)) = (question, &mut self.stdin) {
            let written = writeln!(stdin, "{question}").and_then(|()| stdin.flush());
            written.map_err(|e| format!("it takes no more orders ({e}){}", self.said()))?;
        }
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if interrupted() {
                return Err("interrupted".to_owned());
            }
            if left.is_zero() {
                return Err(format!("no answer within {:.1} s{}", limit.as_secs_f64(), self.said()));
            }
            match self.lines.recv_timeout(left.min(POLL)) {
                Ok(Line::Out(text)) => {
                    self.tail.push(&text);
                    return Ok(text);
                }
                Ok(line) => self.note(line, &mut |_| ()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(format!("it has ended{}", self.said())),
            }
        }
    }

    fn said(&self) -> String {
        if self.last_word.is_empty() { String::new() } else { format!(": {}", self.last_word) }
    }

    /// The end of its standard input asks it to end.
    pub fn close(&mut self) {
        self.stdin = None;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let group = self.process.id();
        group::kill(group);
        // It has been killed: this only takes its entry out of the table of processes. One that waits for a GPU that
        // does not answer may stay, and nobody waits for it.
        let until = Instant::now() + DRAIN;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(POLL);
        }
        group::end(group);
    }
}

fn end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    }
}

/// Reads to the end on a thread of its own.
fn forward(from: impl Read + Send + 'static, to: Sender<Line>, kind: fn(String) -> Line) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut bytes = Vec::new();
            match from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            if to.send(kind(text)).is_err() {
                return;
            }
        }
    });
}

/// Runs it to its end, to the limit, or until `stop` is set.
pub fn run(command: &mut Command, limit: Duration, stop: &AtomicBool, on_line: &mut dyn FnMut(&str)) -> Done {
    match Child::start(command, Stdio::null()) {
        Ok(child) => child.finish(limit, stop, on_line),
        Err(reason) => {
            Done { end: End::NotStarted(reason), seconds: 0.0, tail: Tail::default(), last_word: String::new() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, seconds: f64) -> (Done, Vec<String>) {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let limit = Duration::from_secs_f64(seconds);
        let done = run(&mut command, limit, &AtomicBool::new(false), &mut |line| lines.push(line.to_owned()));
        (done, lines)
    }

    #[test]
    fn lines_and_the_exit_code_come_back() {
        let (done, lines) = shell("echo one; echo two; echo bad >&2; exit 3", 60.0);
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(done.rc(), Some(3));
        assert_eq!(done.failure().as_deref(), Some("exit code 3: bad"));
    }

    #[test]
    fn a_limit_ends_what_the_process_has_started_too() {
        let begun = Instant::now();
        let (done, lines) = shell("sleep 60 & echo $!; sleep 60", 1.0);
        assert!(matches!(done.end, End::Limit(_)), "{:?}", done.end);
        assert!(begun.elapsed() < Duration::from_secs(30));
        // It dies in its own time, and whoever inherits it may not have asked about it yet.
        let status = || std::fs::read_to_string(format!("/proc/{}/stat", lines[0])).unwrap_or_default();
        while !(status().is_empty() || status().contains(") Z")) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", status());
        }
    }

    #[test]
    fn what_is_left_behind_does_not_hold_the_pipe() {
        let begun = Instant::now();
        let (done, lines) = shell("sleep 60 & echo done", 60.0);
        assert_eq!((done.rc(), lines), (Some(0), vec!["done".to_owned()]));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_process_answers_until_it_ends() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; read line; echo \"$line back\"; echo gone >&2"]);
        let limit = Duration::from_secs(30);
        let mut child = Child::start(&mut command, Stdio::piped()).ok().unwrap();
        assert_eq!(child.ask(None, limit).as_deref(), Ok("ready"));
        assert_eq!(child.ask(Some("there"), limit).as_deref(), Ok("there back"));
        assert!(child.ask(None, limit).is_err_and(|reason| reason == "it has ended: gone"));
    }
}
