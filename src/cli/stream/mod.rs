//! `stream`: a camera, a video, a folder or a pipe of frames in; masks, a video, frames or lines of JSON out, as they come.

mod arguments;
mod capture;
mod report;
mod sink;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use arguments::Arguments;

use crate::engine::Network;
use crate::stream::{Answer, Stream};
use crate::termination::stop_by_signals;

use self::capture::{Capture, Counted};
use self::report::{FrameReport, Summary};
use self::sink::Sink;
use super::print::Printer;
use super::{Failure, Outcome, message};

/// How soon an end is seen while no answer comes.
const GLANCE: Duration = Duration::from_millis(50);
/// Between two lines about damaged frames.
const QUIET: Duration = Duration::from_secs(1);

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    arguments.check()?;
    if arguments.to_stdout() {
        printer.leave_stdout(arguments.quiet);
    }
    let (list, label_options) = (arguments.words.list()?, arguments.words.options()?);
    let stop = Arc::new(AtomicBool::new(false));
    let notes = message::Notes::new(arguments.quiet);
    let capture = Capture::open(arguments, &stop, notes)?;
    let policy = arguments.policy(capture.is_live());
    let mut sink = Sink::new(arguments, capture.rate())?;
    let options = arguments.stream_options(policy)?;

    let (checkpoint, engine_options) = (arguments.engine.open()?, arguments.engine.options());
    let make = move || Network::from_checkpoint(&checkpoint, &engine_options);
    let stream = Arc::new(Stream::start_with(make, Some(&list), &label_options, options)?);
    // Not for longer: a network that is lost gives its memory back before another is made.
    stream.network().map(|network| arguments.engine.notes(network.note()).for_each(|note| notes.say(note)))?;
    stream.notes().iter().for_each(|note| notes.say(note));
    notes.say(capture.describe());

    let by_signal = Arc::clone(&stop);
    stop_by_signals(move || by_signal.store(true, Ordering::Relaxed));
    let counted = Arc::clone(&capture.counted);
    let reader = capture.start(Arc::clone(&stream), policy)?;
    arguments.words.follow(&stream, &stop, notes, !arguments.is_from_stdin())?;
    let begin = Instant::now();
    let mut watch = Watch { notes, told: None, failed: 0 };
    let taken = take(arguments, &stream, &stop, &counted, &mut sink, &mut watch, printer);
    // Whatever ended it: the source is told, the frame in flight ends, files are finished.
    stop.store(true, Ordering::Relaxed);
    let ended = stream.stop();
    let delivered = taken?;
    sink.finish()?;
    let source = reader.ended();
    let summary = Summary::new(&stream.stats(), &counted, delivered, begin.elapsed());
    printer.print(&summary, Summary::render)?;
    ended?;
    source?;
    let is_whole = watch.failed == 0 && counted.corrupt() == 0;
    Ok(if is_whole { Outcome::Done } else { Outcome::SomeFailed })
}

/// Takes answers until the source has ended and all are there, or so many were asked for, or a signal came. How many.
fn take(
    arguments: &Arguments,
    stream: &Stream,
    stop: &AtomicBool,
    counted: &Counted,
    sink: &mut Sink,
    watch: &mut Watch,
    printer: &mut Printer,
) -> Result<u64, Failure> {
    let mut delivered = 0;
    let most = arguments.frames.unwrap_or(u64::MAX);
    while delivered < most && !stop.load(Ordering::Relaxed) {
        watch.damaged(counted);
        let Some(answer) = stream.recv(GLANCE)? else {
            if stream.is_over() {
                break;
            }
            continue;
        };
        let Some(report) = deliver(arguments, stream, sink, watch, &answer)? else { break };
        delivered += 1;
        printer.print(&report, FrameReport::render)?;
        if printer.has_lost_its_reader() && arguments.out.is_none() {
            break;
        }
    }
    watch.last(counted);
    Ok(delivered)
}

/// One answer to where it goes; `None` where nobody is there any more.
fn deliver(
    arguments: &Arguments,
    stream: &Stream,
    sink: &mut Sink,
    watch: &mut Watch,
    answer: &Answer,
) -> Result<Option<FrameReport>, Failure> {
    match answer.results() {
        Ok(results) => {
            let Some(files) = sink.take(answer, results)? else { return Ok(None) };
            Ok(Some(FrameReport::new(answer, results, stream.replaced(), files, arguments.has_threshold())))
        }
        Err(error) => {
            watch.failed += 1;
            watch.notes.error(format!("frame {}: {error}", answer.sequence));
            Ok(Some(FrameReport::failed(answer, error, stream.replaced())))
        }
    }
}

/// What is said of damaged frames: not more than once a second.
struct Watch {
    notes: message::Notes,
    told: Option<(Instant, u64)>,
    failed: u64,
}

impl Watch {
    fn damaged(&mut self, counted: &Counted) {
        if self.told.is_none_or(|(when, _)| when.elapsed() >= QUIET) {
            self.last(counted);
        }
    }

    fn last(&mut self, counted: &Counted) {
        let (corrupt, before) = (counted.corrupt(), self.told.map_or(0, |(_, before)| before));
        if corrupt > before {
            self.told = Some((Instant::now(), corrupt));
            self.notes.error(format!("{} ({corrupt} damaged so far)", counted.last_damage()));
        }
    }
}
