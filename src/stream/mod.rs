//! A camera's flow: frames pushed by whoever has them, computed by a thread of the stream's own, answers taken by whoever wants them.
//! Nobody waits for anybody: where more frames come than can be computed the newest is, and the others are counted. `docs/stream.md` has
//! the design.

mod inbox;
mod options;
mod outbox;
mod realtime;
mod ring;
#[cfg(test)]
mod ring_tests;
mod stats;
mod sync;
mod waker;
mod words;
mod worker;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::inbox::Inbox;
pub use self::inbox::{Pushed, Slot};
pub use self::options::{Policy, Realtime, StreamOptions, Waiting};
use self::outbox::Outbox;
pub use self::outbox::{Answer, AnswerTimes};
use self::stats::Counters;
pub use self::stats::{Histogram, Stats};
use self::waker::Waker;
use self::words::Words;
use self::worker::{Factory, Worker};
use crate::engine::{LabelOptions, Labels, Network};
use crate::error::{Error, Result};
use crate::labels::List;
use crate::pixels::{Format, Image};

/// Frames in, answers out, on a thread of its own, over the weights of a [`Network`] that any number of streams and lanes share. It is
/// shared between threads as it is: one may push, another take answers, a third change the words.
///
/// ```
/// use std::time::Duration;
///
/// use lseg_fast::stream::{Stream, StreamOptions};
/// use lseg_fast::{Image, Network, Options};
///
/// # fn main() -> lseg_fast::Result<()> {
/// let network = Network::load_demo(&Options::default())?;
/// let labels = network.labels(&["grass", "sky", "other"])?;
/// let options = StreamOptions { size: Some("64x64".parse()?), ..StreamOptions::default() };
/// let stream = Stream::start(&network, Some(&labels), options)?;
///
/// let rgb = vec![90; 64 * 48 * 3];
/// stream.push(&Image::rgb8(64, 48, &rgb), 1_700_000_000_000)?; // with the camera's own stamp
/// let answer = stream.recv(Duration::from_secs(60))?.expect("one frame was pushed");
/// assert_eq!(answer.stamp, 1_700_000_000_000);
/// assert_eq!(answer.results().unwrap().mask(0).unwrap().len(), 64 * 48);
/// let stats = stream.stats();
/// assert_eq!((stats.pushed, stats.done), (1, 1));
/// # Ok(())
/// # }
/// ```
pub struct Stream {
    inbox: Arc<Inbox>,
    outbox: Arc<Outbox>,
    words: Arc<Words>,
    counters: Arc<Counters>,
    notes: Vec<String>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Stream {
    /// A stream over a network's weights. Where an error ends the engine ([`Error::Lost`]), the stream ends with it.
    ///
    /// # Errors
    /// As [`Network::lane`]; what a frame of `options.warm` fails with; [`Error::Device`] for what is required of the system and refused.
    pub fn start(network: &Network, labels: Option<&Labels>, options: StreamOptions) -> Result<Stream> {
        let words = Words::new(network, labels, &LabelOptions::default());
        Stream::begin(network, words, options, None)
    }

    /// A stream that makes its network itself, and another where an error ends it: three times within a minute at most. Until there is one,
    /// frames are replaced, or the queue fills.
    ///
    /// # Errors
    /// As [`Stream::start`] and [`Network::labels_of`]; what `factory` fails with.
    pub fn start_with(
        mut factory: impl FnMut() -> Result<Network> + Send + 'static,
        labels: Option<&List>,
        label_options: &LabelOptions,
        options: StreamOptions,
    ) -> Result<Stream> {
        let network = factory()?;
        let labels = labels.map(|list| network.labels_of(list, label_options, &mut |_, _| ())).transpose()?;
        let words = Words::new(&network, labels.as_ref(), label_options);
        Stream::begin(&network, words, options, Some(Box::new(factory)))
    }

    fn begin(network: &Network, words: Words, options: StreamOptions, factory: Option<Factory>) -> Result<Stream> {
        let mut lane = worker::lane(network, &options)?;
        let is_gpu = lane.cuda_stream().is_some();
        if options.on_device && !is_gpu {
            let what = format!("results stay on a GPU alone, and this stream is on {}", network.device());
            return Err(Error::Device(what));
        }
        let at_once = if is_gpu && options.overlap { 2 } else { 1 };
        let (counters, words) = (Arc::new(Counters::default()), Arc::new(words));
        let engine = Arc::new(Waker::default());
        let reader = Inbox::with_reader(options.policy, at_once, lane.frame_buffers()?, &counters, &engine);
        let is_newest = options.policy == Policy::Newest;
        let outbox = Arc::new(Outbox::new(options.pool.max(1) + at_once, is_newest, Arc::clone(&engine)));
        let inbox = Arc::clone(&reader.inbox);
        let (realtime, warm) = (options.realtime.clone(), options.warm);
        let (shared_outbox, shared_words, shared_counters) =
            (Arc::clone(&outbox), Arc::clone(&words), Arc::clone(&counters));
        let (begun, has_begun) = mpsc::channel();
        let work = move || {
            // Whatever happens here, nobody waits for an answer that will not come.
            let _ends = Ends(Arc::clone(&reader.inbox), Arc::clone(&shared_outbox));
            engine.is_me();
            let mut worker = Worker::new(lane, reader, shared_outbox, shared_words, shared_counters, options, factory);
            let refused = realtime.as_ref().map_or(Ok(Vec::new()), realtime::apply);
            let ready = refused.and_then(|refused| warm.map_or(Ok(()), |frame| worker.warm(frame)).map(|()| refused));
            let is_ready = ready.is_ok();
            let _ = begun.send(ready);
            if is_ready {
                worker.run();
            }
        };
        let thread = thread::Builder::new().name("lseg-stream".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Error::Device(format!("no thread for a stream: {error}")))?;
        let notes = has_begun.recv().map_err(|_| Error::Lost(PANICKED.to_owned()))??;
        Ok(Stream { inbox, outbox, words, counters, notes, thread: Mutex::new(Some(thread)) })
    }

    /// What the system has refused, one line each ([`Realtime`]).
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Memory for a frame of this format and size, to be filled and pushed: on a GPU it is page-locked, and the frame goes from there. `None`
    /// where as many wait as may, which is of [`Policy::Every`] alone. One thread at a time has one; another that asks waits for it.
    ///
    /// # Errors
    /// [`Error::Size`] for a frame without pixels or larger than memory; [`Error::Memory`]; [`Error::Busy`] once the stream is closed;
    /// [`Error::Lost`].
    pub fn slot(&self, format: Format, width: usize, height: usize) -> Result<Option<Slot<'_>>> {
        self.check()?;
        self.inbox.slot(format, width, height)
    }

    /// As [`Stream::slot`], waiting for room for so long at most.
    ///
    /// # Errors
    /// As there.
    pub fn slot_within(
        &self,
        format: Format,
        width: usize,
        height: usize,
        timeout: Duration,
    ) -> Result<Option<Slot<'_>>> {
        self.check()?;
        self.inbox.slot_within(format, width, height, timeout)
    }

    /// Copies a frame of the host's memory and gives it to the engine. It waits for nothing. The stamp is the caller's: nanoseconds by whatever clock,
    /// and its answer has it as it was.
    ///
    /// # Errors
    /// As [`Stream::slot`]; [`Error::Size`] for a frame of more or fewer bytes than its size has; [`Error::Device`] for one in CUDA
    /// memory.
    pub fn push(&self, image: &Image<'_>, stamp: i64) -> Result<Pushed> {
        self.check()?;
        self.inbox.push(image, stamp)
    }

    /// The next answer, if there is one: of [`Policy::Newest`] the last that was computed, else in the order of the frames.
    pub fn poll(&self) -> Option<Answer> {
        self.outbox.poll()
    }

    /// Waits for the next answer for so long at most. `None`: nothing came, or nothing will ([`Stream::is_over`]).
    ///
    /// # Errors
    /// [`Error::Lost`]: the engine has ended by an error, and all answers are taken.
    pub fn recv(&self, timeout: Duration) -> Result<Option<Answer>> {
        self.outbox.recv(timeout)
    }

    /// Other words from the next frame on; frames that are computed keep theirs. They are encoded on the caller's thread, beside running frames.
    /// Their number, which answers about them have as their epoch. Where it fails the words stay as they are.
    ///
    /// # Errors
    /// As [`Network::labels`]; [`Error::Lost`].
    pub fn set_labels<S: AsRef<str>>(&self, labels: &[S]) -> Result<u64> {
        self.words.set(labels)
    }

    /// As [`Stream::set_labels`], of a list as [`Network::labels_of`] takes it.
    ///
    /// # Errors
    /// As [`Network::labels_of`]; [`Error::Lost`].
    pub fn set_list(&self, list: &List, options: &LabelOptions) -> Result<u64> {
        self.words.set_list(list, options)
    }

    /// The number of the present words; 0 where there are none.
    pub fn epoch(&self) -> u64 {
        self.words.epoch()
    }

    /// Whose weights it uses.
    ///
    /// # Errors
    /// [`Error::Lost`] where there are none any more.
    pub fn network(&self) -> Result<Network> {
        self.words.network()
    }

    /// What became of its frames so far.
    pub fn stats(&self) -> Stats {
        self.counters.stats(self.outbox.unread())
    }

    /// [`Stats::replaced`] alone, without a lock: for each answer.
    pub fn replaced(&self) -> u64 {
        self.counters.replaced.load(Ordering::Acquire)
    }

    /// No more frames: those that wait are computed, and their answers can be taken.
    pub fn close(&self) {
        self.inbox.close();
    }

    /// Whether the stream has ended and all answers are taken.
    pub fn is_over(&self) -> bool {
        self.outbox.is_over()
    }

    /// Ends the stream: frames in flight are finished, those that wait are not computed (they count as stale), and the engine's thread is
    /// gone when this returns. Answers that are there can still be taken.
    ///
    /// # Errors
    /// [`Error::Lost`]: the engine had ended by an error.
    pub fn stop(&self) -> Result<Stats> {
        self.inbox.stop();
        // Whoever stops it too waits here as well.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            return Err(Error::Lost(PANICKED.to_owned()));
        }
        match self.outbox.failure() {
            Some(why) => Err(Error::Lost(why)),
            None => Ok(self.stats()),
        }
    }

    /// # Errors
    /// The engine has ended by an error.
    fn check(&self) -> Result<()> {
        match self.inbox.is_closed().then(|| self.outbox.failure()).flatten() {
            Some(why) => Err(Error::Lost(why)),
            None => Ok(()),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

const PANICKED: &str = "the stream's thread has panicked";

/// Tells those who push and those who wait for answers that the thread has ended, however it did.
struct Ends(Arc<Inbox>, Arc<Outbox>);

impl Drop for Ends {
    fn drop(&mut self) {
        let Ends(inbox, outbox) = self;
        outbox.end(thread::panicking().then(|| PANICKED.to_owned()));
        inbox.end();
    }
}
