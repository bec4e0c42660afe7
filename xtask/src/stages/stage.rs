//! One stage: its steps, one after the other, each recorded, until its time is over.

use std::fmt::Display;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::child::{self, Done, End};
use super::group;
use super::log;
use super::session::Session;
use super::torch;
use crate::Outcome;
use crate::record::{Record, STAGE};

/// With less time than that nothing is begun.
const LEAST: Duration = Duration::from_millis(100);
/// A process' standard output is kept up to this size.
const KEPT: usize = 15 << 20;

pub struct Stage<'s> {
    pub session: &'s Session,
    pub number: u8,
    started: Instant,
    deadline: Instant,
    stop: &'s AtomicBool,
    failures: Vec<String>,
}

/// A command of a stage.
pub struct Step {
    pub name: String,
    pub command: Command,
    /// Seconds.
    pub limit: f64,
    /// The name under which each line of JSON that it prints is recorded as soon as it comes.
    pub lines: Option<&'static str>,
}

impl Step {
    pub fn new(name: impl Into<String>, command: Command, limit: f64) -> Step {
        Step { name: name.into(), command, limit, lines: None }
    }

    pub fn lines(mut self, name: &'static str) -> Step {
        self.lines = Some(name);
        self
    }
}

/// A command of PyTorch's side, as [`Step`].
pub struct TorchStep {
    pub name: &'static str,
    pub limit: f64,
    pub lines: Option<&'static str>,
}

/// What came of a step.
pub struct Output {
    pub done: Done,
    pub stdout: String,
    /// Its lines of JSON.
    pub json: Vec<Value>,
    /// Lines that begin as JSON does and are none.
    pub unreadable: usize,
}

impl Output {
    /// In words: a failure of the process or of its output.
    pub fn failure(&self) -> Option<String> {
        self.done.failure().or_else(|| match self.unreadable {
            0 => None,
            lines => Some(format!("{lines} lines of its output are no JSON (a number that is none?)")),
        })
    }
}

/// Whether a step is ok.
pub struct Verdict {
    pub why: Option<String>,
    pub data: Option<Value>,
}

impl<'s> Stage<'s> {
    pub fn new(session: &'s Session, number: u8, deadline: Instant, stop: &'s AtomicBool) -> Stage<'s> {
        Stage { session, number, started: Instant::now(), deadline, stop, failures: Vec::new() }
    }

    /// Runs a step and records it as its exit code says.
    pub fn step(&mut self, step: Step) -> Output {
        self.judged(step, |output| Verdict { why: output.failure(), data: None })
    }

    /// Runs a step and records it as `judge` says.
    pub fn judged(&mut self, step: Step, judge: impl FnOnce(&Output) -> Verdict) -> Output {
        let name = step.name.clone();
        let output = self.run(step);
        let verdict = judge(&output);
        self.judge(&name, &output, verdict);
        output
    }

    /// A task of PyTorch's side; an error where there is no PyTorch, which is recorded as missing.
    pub fn torch(&mut self, command: Outcome<Command>, step: TorchStep) -> Outcome<Output> {
        let TorchStep { name, limit, lines } = step;
        let output = command.and_then(|command| {
            let output = self.run(Step { lines, ..Step::new(name, command, limit) });
            torch::absent(&output).map_or(Ok(output), Err)
        });
        match &output {
            Ok(output) => {
                self.judge(name, output, Verdict { why: output.failure(), data: output.json.last().cloned() });
            }
            Err(reason) => self.missing(name, reason),
        }
        output
    }

    /// Runs steps beside each other; each is recorded as its exit code says. Whether all went well.
    pub fn together(&mut self, steps: Vec<Step>) -> bool {
        let names: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
        let stage = &*self;
        let outputs: Vec<Option<Output>> = thread::scope(|scope| {
            let running: Vec<_> = steps.into_iter().map(|step| scope.spawn(move || stage.run(step))).collect();
            running.into_iter().map(|thread| thread.join().ok()).collect()
        });
        for (name, output) in names.iter().zip(&outputs) {
            match output {
                Some(output) => self.judge(name, output, Verdict { why: output.failure(), data: None }),
                None => self.fail(name, "the thread that ran it broke down"),
            }
        }
        outputs.iter().all(|output| output.as_ref().is_some_and(|output| output.failure().is_none()))
    }

    /// Records a step that has been run.
    pub fn judge(&mut self, name: &str, output: &Output, verdict: Verdict) {
        let Verdict { why, data } = verdict;
        let (rc, s) = (output.done.rc(), Some(output.done.seconds));
        self.record(Record { rc, s, why, data, ..Record::new(self.number, name, true) });
    }

    /// Records a failure of this program's own.
    pub fn fail(&mut self, name: &str, why: impl Display) {
        self.record(Record { why: Some(why.to_string()), ..Record::new(self.number, name, false) });
    }

    /// Runs a step; its lines are recorded, its end is the caller's to judge.
    pub fn run(&self, mut step: Step) -> Output {
        let mut output = Output { done: self.nothing(), stdout: String::new(), json: Vec::new(), unreadable: 0 };
        let left = self.left();
        if left < LEAST {
            return output;
        }
        let limit = self.session.limit(step.limit).min(left);
        let mut sink = Sink { stage: self, name: step.lines, output: &mut output };
        let done = child::run(&mut step.command, limit, self.stop, &mut |line| sink.take(line));
        self.session.log.ended(self.number, &step.name, &log::words(&step.command), &done);
        output.done = done;
        output
    }

    fn nothing(&self) -> Done {
        let end = if group::interrupted() {
            End::Interrupted
        } else {
            End::NotStarted("not begun: the stage's time was over".to_owned())
        };
        Done { end, seconds: 0.0, tail: Default::default(), last_word: String::new() }
    }

    /// What is left of its time.
    pub fn left(&self) -> Duration {
        if group::interrupted() { Duration::ZERO } else { self.deadline.saturating_duration_since(Instant::now()) }
    }

    /// Writes a record; one with a reason is a failure of the stage.
    pub fn record(&mut self, mut record: Record) {
        record.ok = record.ok && record.why.is_none();
        // A rehearsal's machine has no such tools; a machine with a GPU should.
        let is_excused = record.missing && !self.session.is_real();
        if !record.ok && !is_excused {
            self.failures.push(format!("{}: {}", record.name, record.why.as_deref().unwrap_or("failed")));
        }
        self.tell(&record);
        self.session.recorder.write(&record);
    }

    /// One line a step for people; lines of data are the files' alone.
    fn tell(&self, record: &Record) {
        let verdict = if record.missing {
            "missing"
        } else if record.ok {
            "ok"
        } else {
            "FAILED"
        };
        let seconds = record.s.map_or(String::new(), |s| format!("{s:.1} s"));
        let why = record.why.as_deref().map(super::tail::shortened).unwrap_or_default();
        super::say(&format!("{}  {:<34} {verdict:<8} {seconds:>8}  {why}", self.number, record.name));
    }

    /// Something that this machine lacks.
    pub fn missing(&mut self, name: &str, why: impl Display) {
        let why = why.to_string();
        self.session.log.say(&format!("stage {}, {name}: missing: {why}", self.number));
        self.record(Record { missing: true, why: Some(why), ..Record::new(self.number, name, false) });
    }

    /// A line of data that is no verdict.
    pub fn note(&self, name: &str, data: Value) {
        self.session.recorder.write(&Record::new(self.number, name, true).with(data));
    }

    /// What has failed so far, in words.
    pub fn failures(&self) -> Option<String> {
        (!self.failures.is_empty()).then(|| self.failures.join("; "))
    }

    /// Records how it went; in words, if it failed.
    pub fn end(self) -> Option<String> {
        let why = self.failures();
        let record = Record {
            s: Some(self.started.elapsed().as_secs_f64()),
            why: why.clone(),
            ..Record::new(self.number, STAGE, why.is_none())
        };
        self.session.recorder.write(&record);
        why
    }
}

/// Takes a process' lines as they come.
struct Sink<'a, 's> {
    stage: &'a Stage<'s>,
    name: Option<&'static str>,
    output: &'a mut Output,
}

impl Sink<'_, '_> {
    fn take(&mut self, line: &str) {
        let output = &mut *self.output;
        if output.stdout.len() + line.len() < KEPT {
            output.stdout += line;
            output.stdout.push('\n');
        }
        if !line.starts_with('{') {
            return;
        }
        let record = Record::new(self.stage.number, self.name.unwrap_or_default(), true);
        let record = match serde_json::from_str::<Value>(line) {
            Ok(value) => {
                output.json.push(value.clone());
                record.with(value)
            }
            Err(reason) => {
                output.unreadable += 1;
                let why = Some(format!("no JSON: {reason}"));
                Record { ok: false, why, ..record.with(super::tail::shortened(line).into()) }
            }
        };
        if self.name.is_some() {
            self.stage.session.recorder.write(&record);
        }
    }
}
