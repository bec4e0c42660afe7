//! A source that comes back: lost, it is opened anew until it is there again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Next, Room, Source};
use crate::error::{Error, Result};

/// Before it is first tried again.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Between later tries, each of which waits twice as long as the one before it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How soon a stop is seen.
const GLANCE: Duration = Duration::from_millis(20);

/// Who is told what happens to a source, in one line.
pub type Tell = Box<dyn FnMut(&str) + Send>;

/// A live source that is opened anew when it is lost. One that is not live is lost as without it: its frames would begin again.
pub struct Reconnect<O> {
    open: O,
    source: Option<Box<dyn Source>>,
    description: String,
    live: bool,
    tell: Tell,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    waits: Waits,
}

impl<O: FnMut() -> Result<Box<dyn Source>> + Send> Reconnect<O> {
    /// Opens it for the first time. `stop` ends the waiting between two tries, and with it the frames.
    ///
    /// # Errors
    /// Those of `open`: what is not there at the start may be a wrong name.
    pub fn new(mut open: O, tell: Tell, stop: Arc<AtomicBool>) -> Result<Reconnect<O>> {
        let source = open()?;
        let (description, live) = (source.describe(), source.is_live());
        let (count, waits) = (Arc::default(), Waits::default());
        Ok(Reconnect { open, source: Some(source), description, live, tell, stop, count, waits })
    }

    /// How often it has come back so far; to be read while somebody else has the source.
    pub fn count(&self) -> Arc<AtomicU64> {
        self.count.clone()
    }

    /// Waits and opens until there is a source again; whether there is one before the stop.
    fn again(&mut self) -> bool {
        loop {
            let wait = self.waits.next();
            if !wait_unless(&self.stop, wait) {
                return false;
            }
            match (self.open)() {
                Ok(source) => {
                    self.description = source.describe();
                    self.source = Some(source);
                    self.count.fetch_add(1, Ordering::Relaxed);
                    (self.tell)(&format!("opened again: {}", self.description));
                    return true;
                }
                Err(error) => (self.tell)(&format!("{error}; tried again in {}", seconds(self.waits.upcoming))),
            }
        }
    }
}

impl<O: FnMut() -> Result<Box<dyn Source>> + Send> Source for Reconnect<O> {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn is_live(&self) -> bool {
        self.live
    }

    /// Waits over losses. After the stop there is only the end.
    ///
    /// # Errors
    /// Those of the room, as they are; of a source that is not live its own.
    fn next(&mut self, room: &mut dyn Room) -> Result<Next> {
        loop {
            if self.source.is_none() && !self.again() {
                return Ok(Next::End);
            }
            let Some(source) = self.source.as_mut() else { return Ok(Next::End) };
            match source.next(room) {
                Err(error) if self.live && is_of_source(&error) => {
                    // Before it is opened anew: a camera has one reader, and keeps its name as long as it is open.
                    self.source = None;
                    (self.tell)(&format!("{error}; opened again in {}", seconds(self.waits.upcoming)));
                }
                next => {
                    if matches!(next, Ok(Next::Frame(_))) {
                        self.waits = Waits::default();
                    }
                    return next;
                }
            }
        }
    }
}

/// Whether the source failed, and not who wanted the frame.
fn is_of_source(error: &Error) -> bool {
    matches!(error, Error::Video(_) | Error::Io { .. })
}

fn seconds(wait: Duration) -> String {
    format!("{} s", wait.as_secs_f64())
}

/// How long to wait, time and again. A frame begins them anew: a source that opens and fails at once does not.
struct Waits {
    upcoming: Duration,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits { upcoming: FIRST_WAIT }
    }
}

impl Waits {
    fn next(&mut self) -> Duration {
        let wait = self.upcoming;
        self.upcoming = (2 * wait).min(LONGEST_WAIT);
        wait
    }
}

/// Whether the whole time has passed before the stop.
fn wait_unless(stop: &AtomicBool, wait: Duration) -> bool {
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(GLANCE));
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::tests::{Memory, Script};
    use super::*;
    use crate::video::Frame;

    fn frame(stamp: i64) -> Result<Next> {
        Ok(Next::Frame(Frame { stamp, missed: 0 }))
    }

    fn lost() -> Result<Next> {
        Err(Error::Video("camera: unplugged".to_owned()))
    }

    type Opened = Vec<Result<Box<dyn Source>>>;

    /// Opens these one after the other; what was told.
    fn reconnect(
        mut sources: Opened,
        stop: &Arc<AtomicBool>,
    ) -> (impl Source + use<>, Arc<AtomicU64>, Arc<Mutex<Vec<String>>>) {
        sources.reverse();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = told.clone();
        let tell = Box::new(move |text: &str| heard.lock().unwrap().push(text.to_owned()));
        let source =
            Reconnect::new(move || sources.pop().expect("opened once more than it should"), tell, stop.clone())
                .unwrap();
        let count = source.count();
        (source, count, told)
    }

    #[test]
    fn frames_go_on_after_a_loss() {
        let sources: Opened = vec![
            Ok(Script::live(vec![frame(1), lost()])),
            Err(Error::Video("no such camera".to_owned())),
            Ok(Script::live(vec![lost()])),
            Ok(Script::live(vec![frame(2), Ok(Next::Corrupt("short".to_owned())), lost()])),
            Ok(Script::live(vec![frame(3), Ok(Next::End)])),
        ];
        let (mut source, count, told) = reconnect(sources, &Arc::default());
        assert!(source.is_live());
        let (mut room, start) = (Memory::default(), Instant::now());
        let mut next = || source.next(&mut room).unwrap();
        assert!(matches!(next(), Next::Frame(Frame { stamp: 1, .. })));
        assert!(matches!(next(), Next::Frame(Frame { stamp: 2, .. })));
        // 0.1, 0.2 and 0.4 s: what opens and is lost at once does not begin them anew.
        assert!(start.elapsed() >= Duration::from_millis(700));
        assert!(matches!(next(), Next::Corrupt(_)));
        assert!(matches!(next(), Next::Frame(Frame { stamp: 3, .. })));
        assert!(matches!(next(), Next::End));
        assert_eq!(count.load(Ordering::Relaxed), 3);
        let expected = [
            "camera: unplugged; opened again in 0.1 s",
            "no such camera; tried again in 0.2 s",
            "opened again: a script",
            "camera: unplugged; opened again in 0.4 s",
            "opened again: a script",
            "camera: unplugged; opened again in 0.1 s",
            "opened again: a script",
        ];
        assert_eq!(*told.lock().unwrap(), expected);
    }

    #[test]
    fn waits_double_up_to_five_seconds() {
        let mut waits = Waits::default();
        let all: Vec<u128> = (0..9).map(|_| waits.next().as_millis()).collect();
        assert_eq!(all, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn a_stop_ends_the_waiting() {
        // A busy machine may take a thread's processor for longer than the first wait, 100 ms: once, not thrice.
        let took = (0..3).map(|_| {
            let stop = Arc::new(AtomicBool::new(false));
            let sources: Opened = vec![Ok(Script::live(vec![lost()]))];
            let (mut source, count, _) = reconnect(sources, &stop);
            stop.store(true, Ordering::Relaxed);
            let start = Instant::now();
            assert!(matches!(source.next(&mut Memory::default()).unwrap(), Next::End));
            assert!(matches!(source.next(&mut Memory::default()).unwrap(), Next::End));
            assert_eq!(count.load(Ordering::Relaxed), 0);
            start.elapsed()
        });
        assert!(took.min().unwrap() < Duration::from_millis(90));

        // While it waits, too.
        let other = Arc::new(AtomicBool::new(false));
        let setter = other.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            setter.store(true, Ordering::Relaxed);
        });
        assert!(!wait_unless(&other, Duration::from_secs(60)));
        thread.join().unwrap();
    }

    #[test]
    fn files_and_rooms_fail_as_they_are() {
        let file: Opened = vec![Ok(Script::file(vec![lost()]))];
        let (mut source, count, _) = reconnect(file, &Arc::default());
        assert!(matches!(source.next(&mut Memory::default()), Err(Error::Video(_))));
        let full: Opened = vec![Ok(Script::live(vec![Err(Error::Memory("full".to_owned())), frame(1)]))];
        let (mut source, other, _) = reconnect(full, &Arc::default());
        assert!(matches!(source.next(&mut Memory::default()), Err(Error::Memory(_))));
        assert!(matches!(source.next(&mut Memory::default()), Ok(Next::Frame(_))));
        assert_eq!(count.load(Ordering::Relaxed) + other.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_not_there_at_the_start_is_an_error() {
        let open = || -> Result<Box<dyn Source>> { Err(Error::Video("no such camera".to_owned())) };
        assert!(Reconnect::new(open, Box::new(|_| {}), Arc::default()).is_err());
    }
}
