//! The runner that run.sh starts: nine stages within nine minutes, each step within a limit of its own, everything
//! recorded as soon as it is known.

pub mod arguments;
mod budget;
mod child;
mod clocks;
mod correct;
pub mod date;
mod env;
mod fault;
mod frame;
mod group;
mod kernels;
mod log;
mod micro;
mod ncu;
pub mod places;
mod preparation;
mod sanitizer;
mod session;
mod stage;
mod tail;
mod tools;
mod torch;
mod wheel;

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use self::arguments::Arguments;
pub use self::budget::Mode;
use self::budget::{Budget, STAGES};
use self::clocks::Clocks;
pub use self::clocks::FILE as CLOCKS_FILE;
use self::frame::Agreement;
pub use self::frame::{FRAME, OURS};
pub use self::group::interrupt;
pub use self::kernels::{KERNEL, SWEEP_FILE, TORCH_RATE};
pub use self::micro::MICRO;
use self::places::Bundle;
use self::preparation::{Preparation, Subject};
use self::session::Session;
use self::stage::Stage;
use self::torch::Torch;
use crate::record::{BEGIN, END, Record, STAGE};
use crate::results::Results;
use crate::{Outcome, report};

/// Numbers and names of the stages.
pub fn names() -> impl Iterator<Item = (u8, &'static str)> {
    STAGES.iter().map(|budget| (budget.stage, budget.name))
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Passed,
    Failed,
    Interrupted,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Interrupted => "interrupted",
        }
    }
}

/// The whole run; its results are in the folder that was asked for.
pub fn run(arguments: Arguments, bundle: Bundle) -> Outcome<Verdict> {
    let session = Session::begin(arguments, bundle)?;
    session.recorder.write(&begin(&session));
    let mut run = Run { session: &session, failures: Vec::new(), torch: Torch::default(), capability: None };
    run.all();
    let verdict = run.verdict();
    session.recorder.write(&run.end(verdict));
    let out = &session.arguments.out;
    say(&report::terminal(&Results::read(out)?, &out.display().to_string()));
    Ok(verdict)
}

/// For people. Where nobody listens any more the run goes on: its results are in the files.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn begin(session: &Session) -> Record {
    let Arguments { mode, stages, patience, .. } = &session.arguments;
    Record::new(0, BEGIN, true).with(json!({
        "commit": session.bundle.commit().trim(),
        "date": date::iso(date::now()),
        "dry": *mode != Mode::Real,
        "quick": *mode == Mode::Quick,
        "stages": stages,
        "patience": patience,
        "bundle": session.bundle.folder.display().to_string(),
    }))
}

/// A failure, and whether it fails the run.
struct Failure {
    what: String,
    decides: bool,
}

struct Run<'s> {
    session: &'s Session,
    failures: Vec<Failure>,
    torch: Torch,
    /// The GPU's compute capability.
    capability: Option<String>,
}

impl Run<'_> {
    fn all(&mut self) {
        let session = self.session;
        let clocks = Clocks::start(session);
        let preparation = Preparation::default();
        thread::scope(|scope| {
            // The race's model; the profiler looks at the same one.
            let is_needed = session.chosen(4) || session.chosen(7);
            let (preparation, until) = (&preparation, self.deadline(7));
            let background = is_needed.then(|| scope.spawn(move || preparation.run(session, until)));
            if !session.chosen(1) {
                preparation.gpu_is_free();
            }
            for budget in STAGES.iter().filter(|budget| session.chosen(budget.stage)) {
                self.stage(budget, preparation, &clocks);
            }
            preparation.end();
            let failed = background.and_then(|thread| thread.join().unwrap_or(Some("it broke down".to_owned())));
            self.failed("preparation", failed, false);
        });
        if let Ok(clocks) = clocks {
            self.failed(clocks::FILE, clocks.end(), false);
        }
    }

    fn deadline(&self, stage: u8) -> Instant {
        let Arguments { stages, mode, patience, .. } = &self.session.arguments;
        self.session.started + budget::deadline(stage, stages, *mode, *patience)
    }

    fn stage(&mut self, budget: &Budget, preparation: &Preparation, clocks: &Outcome<Clocks>) {
        let deadline = self.deadline(budget.stage);
        let name = format!("{} {}", budget.stage, budget.name);
        if group::interrupted() || Instant::now() >= deadline {
            let why = Some("skipped: the time was over before it began".to_owned());
            let record = Record { why: why.clone(), ..Record::new(budget.stage, STAGE, false) };
            self.session.recorder.write(&record);
            return self.failed(&name, why, budget.decides);
        }
        let stop = AtomicBool::new(false);
        let mut stage = Stage::new(self.session, budget.stage, deadline, &stop);
        self.steps(&mut stage, preparation, clocks);
        let failed = stage.end();
        // A rehearsal looks for slips: each of them fails it, but for the fault's outcome, which nobody can know.
        let decides = budget.decides || (!self.session.is_real() && budget.stage != 8);
        self.failed(&name, failed, decides);
    }

    fn steps(&mut self, stage: &mut Stage, preparation: &Preparation, clocks: &Outcome<Clocks>) {
        match stage.number {
            0 => {
                if let Err(reason) = clocks {
                    stage.missing(clocks::FILE, reason);
                }
                self.capability = env::run(stage);
            }
            1 => {
                micro::run(stage, self.capability.as_deref());
                preparation.gpu_is_free();
            }
            2 => correct::run(stage),
            3 => sanitizer::run(stage),
            4 => self.frame(stage, preparation),
            5 => {
                kernels::run(stage);
                self.torch.rates = kernels::torch(stage);
                self.torch.write(stage);
            }
            6 => kernels::sweep(stage),
            7 => {
                let prepared = preparation.files(stage.session.limit(10.0).min(stage.left()));
                match Subject::of(stage.session, &prepared) {
                    Ok(subject) => ncu::run(stage, &subject),
                    Err(reason) => stage.fail("ncu", reason),
                }
            }
            _ => fault::run(stage),
        }
    }

    fn frame(&mut self, stage: &mut Stage, preparation: &Preparation) {
        let most = |seconds| stage.session.limit(seconds).min(stage.left() / 2);
        let prepared = preparation.files(most(60.0));
        if prepared.is_ok() {
            preparation.wait_for_a_form(stage.session, most(30.0));
        }
        // Nothing else may use the GPU from here on.
        preparation.end();
        let subject = match Subject::of(stage.session, &prepared) {
            Ok(subject) => subject,
            Err(reason) => return stage.fail("frame", reason),
        };
        let Agreement { found, failure } = match prepared {
            Ok(()) => frame::agreement(stage, &subject),
            Err(reason) => Agreement { found: None, failure: Some(reason) },
        };
        self.torch.agreement = found;
        self.torch.frames = frame::race(stage, &subject);
        self.torch.write(stage);
        // Without PyTorch a rehearsal has nothing to compare with.
        self.failed("4 agreement", failure, self.session.is_real());
    }

    fn failed(&mut self, what: &str, why: Option<String>, decides: bool) {
        if let Some(why) = why {
            self.failures.push(Failure { what: format!("{what}: {why}"), decides });
        }
    }

    fn verdict(&self) -> Verdict {
        match (group::interrupted(), self.failures.iter().any(|failure| failure.decides)) {
            (true, _) => Verdict::Interrupted,
            (false, true) => Verdict::Failed,
            (false, false) => Verdict::Passed,
        }
    }

    fn end(&self, verdict: Verdict) -> Record {
        let those = |decides| {
            let some = self.failures.iter().filter(move |failure| failure.decides == decides);
            some.map(|failure| failure.what.clone()).collect::<Vec<_>>()
        };
        let record = Record { s: Some(self.seconds()), ..Record::new(0, END, verdict == Verdict::Passed) };
        record.with(json!({ "verdict": verdict.word(), "failed": those(true), "also": those(false) }))
    }

    fn seconds(&self) -> f64 {
        let elapsed: Duration = self.session.started.elapsed();
        elapsed.as_secs_f64()
    }
}
