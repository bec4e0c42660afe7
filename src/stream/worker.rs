//! The engine's thread: takes frames, computes them, delivers answers. On a GPU the frame after is brought over as late as it can be
//! without being waited for, so that it is the newest.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::inbox::Reader;
use super::options::{Policy, StreamOptions, Waiting};
use super::outbox::{Answer, AnswerTimes, Outbox, Place};
use super::stats::{Counters, increment};
use super::words::{Present, Words};
use crate::engine::{Lane, Network, Ticket, Wanted};
use crate::error::{Error, Result};
use crate::pixels::Format;

/// Makes the engine anew where it is lost.
pub type Factory = Box<dyn FnMut() -> Result<Network> + Send>;

/// Engines that are made anew at most, in so long.
const RESTARTS: usize = 3;
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);
/// What a copy to a GPU is reckoned with, in bytes a second: a slow bus.
const BUS: f64 = 10e9;
/// The next frame is brought over so much earlier than that copy takes.
const MARGIN: Duration = Duration::from_micros(500);
/// Frames after which a GPU replays a graph, in either of its slots.
const WARMING: usize = 4;
/// Before another engine is made; doubled from one to the next.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Worker {
    /// None while another is made.
    lane: Option<Lane>,
    reader: Reader,
    outbox: Arc<Outbox>,
    words: Arc<Words>,
    counters: Arc<Counters>,
    options: StreamOptions,
    factory: Option<Factory>,
    /// Whether frames are in flight; else each is computed when it is waited for.
    submits: bool,
    /// Of the words that the lane has.
    epoch: u64,
    /// Theirs.
    colours: Vec<[u8; 3]>,
    /// The least time that a frame has taken.
    least: Option<Duration>,
    /// When the frame before was done.
    last_done: Option<Instant>,
    /// When engines were made anew.
    restarted: Vec<Instant>,
}

/// A frame that the engine has.
struct Flight {
    number: usize,
    sequence: u64,
    stamp: i64,
    epoch: u64,
    pushed: Instant,
    taken: Instant,
    place: Box<Place>,
    work: Work,
    bytes: usize,
}

enum Work {
    /// It is computed when it is waited for.
    Run,
    Submitted(Ticket),
    /// Its results stay on the GPU, in the place.
    Left,
    Failed(Error),
}

impl Worker {
    pub fn new(
        lane: Lane,
        reader: Reader,
        outbox: Arc<Outbox>,
        words: Arc<Words>,
        counters: Arc<Counters>,
        options: StreamOptions,
        factory: Option<Factory>,
    ) -> Worker {
        let submits = lane.cuda_stream().is_some();
        Worker {
            lane: Some(lane),
            reader,
            outbox,
            words,
            counters,
            options,
            factory,
            submits,
            epoch: 0,
            colours: Vec::new(),
            least: None,
            last_done: None,
            restarted: Vec::with_capacity(RESTARTS),
        }
    }

    /// Computes some frames of this kind, for what the first take longer: plans, graphs, memory.
    pub fn warm(&mut self, (format, width, height): (Format, usize, usize)) -> Result<()> {
        self.take_words()?;
        let Worker { lane: Some(lane), options, colours, outbox, submits, .. } = self else { return Err(no_engine()) };
        let mut buffer = lane.frame_buffers()?.buffer();
        buffer.begin(format, width, height)?;
        let Some(mut place) = outbox.claim() else { return Ok(()) };
        for _ in 0..WARMING {
            let wanted = wanted(options, colours);
            if !*submits {
                lane.run_into(&[buffer.image()?], wanted, &mut place.results)?;
            } else if options.on_device {
                lane.run_buffer_on_device(&buffer, wanted)?.wait()?;
            } else {
                let ticket = lane.submit_buffer(&buffer, wanted)?;
                lane.wait_into(ticket, &mut place.results)?;
            }
        }
        outbox.give_back(place);
        Ok(())
    }

    /// Until the stream is stopped, or closed and all is done, or there is no engine any more.
    pub fn run(&mut self) {
        let mut flying = None;
        let mut failure = None;
        while let Some(flight) = flying.take().or_else(|| self.next()) {
            flying = self.follow_up(&flight);
            let lost = self.finish(flight);
            let Some(lost) = lost else { continue };
            // What was to come behind it is lost as well.
            if let Some(after) = flying.take() {
                self.finish(after);
            }
            if let Err(error) = self.restart(&lost) {
                failure = Some(error.to_string());
                break;
            }
        }
        self.reader.inbox.end();
        self.outbox.end(failure);
    }

    /// The next frame, waited for; none where nothing comes any more.
    fn next(&mut self) -> Option<Flight> {
        loop {
            if self.reader.inbox.is_stopped() {
                return None;
            }
            // Asked before: what was pushed until then is seen below.
            let is_closed = self.reader.inbox.is_closed();
            if let Some(flight) = self.begin() {
                return Some(flight);
            }
            if is_closed && !self.reader.inbox.has_frame() {
                return None;
            }
            self.options.wait.pause();
        }
    }

    /// The frame that is computed behind this one, brought over as late as may be; none where none has come.
    fn follow_up(&mut self, flight: &Flight) -> Option<Flight> {
        if !self.submits || !self.options.overlap || matches!(flight.work, Work::Failed(_)) {
            return None;
        }
        if self.options.policy == Policy::Newest {
            let begun = self.last_done.map_or(flight.taken, |done| done.max(flight.taken));
            let copy = Duration::from_secs_f64(flight.bytes as f64 / BUS);
            let late = begun + self.least?.saturating_sub(copy + MARGIN);
            self.options.wait.until(late);
        }
        if self.reader.inbox.is_stopped() { None } else { self.begin() }
    }

    /// Takes a frame that waits and gives it to the engine.
    fn begin(&mut self) -> Option<Flight> {
        while self.reader.inbox.has_frame() {
            let place = self.outbox.claim()?;
            let Some(number) = self.reader.take() else {
                self.outbox.give_back(place);
                return None;
            };
            let (entry, can_be_taken) = self.reader.entry(number);
            let (taken, pushed) = (Instant::now(), entry.pushed);
            if self.options.stale_after.is_some_and(|most| taken.saturating_duration_since(pushed) > most) {
                drop(entry);
                increment(&self.counters.stale);
                self.reader.give_back(number);
                self.outbox.give_back(place);
                continue;
            }
            let (sequence, stamp) = (entry.sequence, entry.stamp);
            drop(entry);
            let mut flight =
                Flight { number, sequence, stamp, epoch: 0, pushed, taken, place, work: Work::Run, bytes: 0 };
            flight.work = self.give(&mut flight, can_be_taken).unwrap_or_else(Work::Failed);
            return Some(flight);
        }
        None
    }

    /// Gives a frame to the engine.
    fn give(&mut self, flight: &mut Flight, can_be_taken: bool) -> Result<Work> {
        if !can_be_taken {
            return Err(Error::Device("the engine was lost while the frame waited".to_owned()));
        }
        self.take_words()?;
        flight.epoch = self.epoch;
        let Worker { lane, reader, options, colours, .. } = self;
        let lane = lane.as_mut().ok_or_else(no_engine)?;
        let (entry, _) = reader.entry(flight.number);
        let wanted = wanted(options, colours);
        flight.bytes = entry.buffer.bytes();
        if !self.submits {
            return Ok(Work::Run);
        }
        if options.on_device {
            flight.place.on_device = Some(lane.run_buffer_on_device(&entry.buffer, wanted)?);
            return Ok(Work::Left);
        }
        lane.submit_buffer(&entry.buffer, wanted).map(Work::Submitted)
    }

    /// The words of the frames to come, where there are others.
    fn take_words(&mut self) -> Result<()> {
        if self.epoch == self.words.epoch() {
            return Ok(());
        }
        let Present { labels, epoch, .. } = self.words.present();
        let Some(labels) = labels else { return Ok(()) };
        self.lane.as_mut().ok_or_else(no_engine)?.set_labels(&labels)?;
        if let Some((palette, _)) = &self.options.overlay {
            self.colours = palette.colours(labels.names().len());
        }
        self.epoch = epoch;
        Ok(())
    }

    /// Waits for a frame and delivers what came of it. The reason, where the engine is lost.
    fn finish(&mut self, mut flight: Flight) -> Option<String> {
        let outcome = self.wait_for(&mut flight);
        let lost = match &outcome {
            Err(Error::Lost(reason)) => Some(reason.clone()),
            _ => None,
        };
        self.deliver(flight, outcome);
        lost
    }

    fn wait_for(&mut self, flight: &mut Flight) -> Result<()> {
        let Worker { lane, reader, options, colours, .. } = self;
        let lane = lane.as_mut().ok_or_else(no_engine)?;
        let Place { results, on_device } = &mut *flight.place;
        match std::mem::replace(&mut flight.work, Work::Run) {
            Work::Failed(error) => Err(error),
            Work::Run => {
                let (entry, _) = reader.entry(flight.number);
                lane.run_into(&[entry.buffer.image()?], wanted(options, colours), results)
            }
            Work::Submitted(ticket) => {
                while options.wait != Waiting::Block && !lane.is_done(&ticket)? {
                    options.wait.pause();
                }
                lane.wait_into(ticket, results)
            }
            Work::Left => on_device.as_ref().map_or(Ok(()), |results| results.wait()),
        }
    }

    fn deliver(&mut self, flight: Flight, outcome: Result<()>) {
        let Flight { number, sequence, stamp, epoch, pushed, taken, mut place, .. } = flight;
        self.reader.give_back(number);
        let done = Instant::now();
        let since = |before: Instant| done.saturating_duration_since(before);
        let times =
            AnswerTimes { waited: taken.saturating_duration_since(pushed), computed: since(taken), age: since(pushed) };
        match &outcome {
            Ok(()) => {
                // It may have waited for the frame before.
                let alone = since(self.last_done.map_or(taken, |last| last.max(taken)));
                self.least = Some(self.least.map_or(alone, |least| least.min(alone)));
                increment(&self.counters.done);
                self.counters.note(times.age, times.computed, done);
            }
            Err(_) => {
                place.on_device = None;
                increment(&self.counters.failed);
            }
        }
        self.last_done = Some(done);
        let (place, outbox) = (Some(place), Arc::clone(&self.outbox));
        self.outbox.deliver(Answer { sequence, stamp, epoch, times, outcome, place, outbox });
    }

    /// Another engine in the place of one that is lost.
    ///
    /// # Errors
    /// There is none, or there were too many.
    fn restart(&mut self, reason: &str) -> Result<()> {
        self.lane = None;
        let mut reason = reason.to_owned();
        loop {
            let Some(factory) = &mut self.factory else { return Err(Error::Lost(reason)) };
            if self.reader.inbox.is_stopped() {
                return Err(Error::Lost(reason));
            }
            self.restarted.retain(|made| made.elapsed() < RESTARTS_WITHIN);
            let count = self.restarted.len();
            if count == RESTARTS {
                let seconds = RESTARTS_WITHIN.as_secs();
                return Err(Error::Lost(format!("{reason}; the engine was made anew {count} times in {seconds} s")));
            }
            if count > 0 {
                thread::sleep(PAUSE * (1 << count));
            }
            self.restarted.push(Instant::now());
            match self.words.renew(factory).and_then(|network| lane(&network, &self.options)) {
                Ok(mut lane) => match lane.frame_buffers() {
                    Ok(buffers) => {
                        self.reader.inbox.renew(buffers);
                        increment(&self.counters.restarts);
                        // The lane has no words yet; there are none of this number.
                        (self.lane, self.epoch) = (Some(lane), 0);
                        return Ok(());
                    }
                    Err(error) => reason = error.to_string(),
                },
                Err(error) => reason = error.to_string(),
            }
        }
    }
}

/// A lane as the stream's options want it.
pub fn lane(network: &Network, options: &StreamOptions) -> Result<Lane> {
    let mut lane = network.lane()?;
    if let Some(size) = options.size {
        lane.set_size(size);
    }
    lane.set_normalisation(options.normalisation);
    // One a frame in flight, beside those that may be held.
    lane.set_device_places(options.pool.max(1) + 2);
    Ok(lane)
}

fn wanted<'a>(options: &'a StreamOptions, colours: &'a [[u8; 3]]) -> Wanted<'a> {
    let mut wanted: Wanted<'a> = options.wanted;
    if let Some((_, alpha)) = &options.overlay {
        wanted = wanted.overlay(colours, *alpha);
    }
    if !options.points.is_empty() {
        wanted = wanted.at_points(&options.points);
    }
    wanted
}

fn no_engine() -> Error {
    Error::Lost("there is no engine any more".to_owned())
}
