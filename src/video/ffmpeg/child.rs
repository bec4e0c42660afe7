//! A program that runs beside this one: heard, watched and ended with it.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::checkpoint::printable;
use crate::error::{Error, Result};
use crate::termination::begin_thread;
use crate::video::pipe;

/// What closed its output has this long to end by itself.
const TO_END: Duration = Duration::from_secs(5);
/// What ended has its last words read for this long: somebody else may keep the pipe open.
const TO_SPEAK: Duration = Duration::from_secs(1);
/// How often the watch looks.
const GLANCE: Duration = Duration::from_millis(100);
/// Bytes of a line on stderr that are kept at most.
const MOST_SAID: u64 = 4096;

/// ffmpeg's two programs, by name (found in PATH) or by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Decodes and encodes.
    pub ffmpeg: PathBuf,
    /// Says what a file is.
    pub ffprobe: PathBuf,
}

impl Default for Programs {
    fn default() -> Programs {
        Programs { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() }
    }
}

/// How long nothing may come from a child while somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Before the first bytes.
    pub first: Duration,
    /// Behind them.
    pub later: Duration,
}

/// A child process. Dropped, it is killed and its end is waited for.
pub struct Running {
    child: Arc<Mutex<Child>>,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    /// Its last line on stderr so far.
    said: Arc<Mutex<String>>,
    /// Disconnected when stderr was read to its end.
    spoken: Receiver<()>,
    watch: Arc<Watch>,
}

/// How a child ended, and its last words.
pub struct Ended {
    pub status: ExitStatus,
    pub said: String,
    /// It was killed because nothing came from it.
    pub silent: bool,
}

impl Ended {
    /// `exit status: 1: No such file or directory`.
    pub fn why(&self) -> String {
        if self.said.is_empty() { self.status.to_string() } else { format!("{}: {}", self.status, self.said) }
    }
}

impl Running {
    /// Starts it, with no input, or with one that is written to. Where nothing comes from it for as long as `patience` says while
    /// somebody reads, it is killed.
    ///
    /// # Errors
    /// [`Error::Video`] where it cannot be started; where it is not there, with the package that has it.
    pub fn start(
        program: &Path,
        arguments: Vec<OsString>,
        writes: bool,
        patience: Option<Patience>,
    ) -> Result<Running> {
        let mut command = Command::new(program);
        command.args(arguments).stderr(Stdio::piped());
        match writes {
            true => command.stdin(Stdio::piped()).stdout(Stdio::null()),
            false => command.stdin(Stdio::null()).stdout(Stdio::piped()),
        };
        // Ctrl-C at a terminal is this program's, which ends its children when it has done what is left to do.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| not_started(program, &error))?;
        let (input, output, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (said, watch): (Arc<Mutex<String>>, Arc<Watch>) = Default::default();
        let child = Arc::new(Mutex::new(child));
        // From here on, whatever fails, the child ends with this.
        let (speaks, spoken) = channel::<()>();
        let running = Running { child: child.clone(), input, output, said: said.clone(), spoken, watch: watch.clone() };
        let thread = |error| Error::Video(format!("a thread for {} cannot be started: {error}", program.display()));
        if let Some(stderr) = stderr {
            let listen = move || {
                listen(stderr, &said);
                drop(speaks);
            };
            begin_thread("ffmpeg-stderr".to_owned(), listen).map_err(thread)?;
        }
        if let Some(patience) = patience {
            begin_thread("ffmpeg-watch".to_owned(), move || watch.run(&child, patience)).map_err(thread)?;
        }
        Ok(running)
    }

    /// Reads until `room` is full or nothing more comes; how many bytes came. `first` is called when the first have.
    pub fn read(&mut self, room: &mut [u8], mut first: impl FnMut()) -> io::Result<usize> {
        let Some(output) = &mut self.output else { return Ok(0) };
        let mut filled = 0;
        while filled < room.len() {
            self.watch.begins();
            let read = pipe::some(output, &mut room[filled..]);
            self.watch.ends(matches!(read, Ok(1..)));
            match read? {
                0 => break,
                count => {
                    if filled == 0 {
                        first();
                    }
                    filled += count;
                }
            }
        }
        Ok(filled)
    }

    /// What is written to.
    pub fn input(&mut self) -> Option<&mut ChildStdin> {
        self.input.as_mut()
    }

    /// Closes its input and waits until it has ended by itself, however long that takes.
    pub fn finish(&mut self) -> io::Result<Ended> {
        self.input = None;
        let status = lock(&self.child).wait()?;
        Ok(self.ended(status))
    }

    /// Of a child that closed its output, or does not read any more: waits for its end, or makes it.
    pub fn end(&mut self) -> io::Result<Ended> {
        (self.input, self.output) = (None, None);
        let start = Instant::now();
        while start.elapsed() < TO_END {
            if let Some(status) = lock(&self.child).try_wait()? {
                return Ok(self.ended(status));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut child = lock(&self.child);
        child.kill()?;
        let status = child.wait()?;
        drop(child);
        Ok(self.ended(status))
    }

    fn ended(&self, status: ExitStatus) -> Ended {
        // Nothing is ever sent: the sender goes when all was read.
        let _ = self.spoken.recv_timeout(TO_SPEAK);
        Ended { status, said: lock(&self.said).clone(), silent: self.watch.killed.load(Ordering::Relaxed) }
    }

    /// Its process's number.
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watch.over.store(true, Ordering::Relaxed);
        let mut child = lock(&self.child);
        // Of one that has ended already both do nothing.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Whether somebody waits for a child's output, and since when.
#[derive(Default)]
struct Watch {
    /// In milliseconds since the watch began, and 1; 0 where nobody waits.
    since: AtomicU64,
    start: Mutex<Option<Instant>>,
    /// Something came.
    began: AtomicBool,
    killed: AtomicBool,
    over: AtomicBool,
}

impl Watch {
    fn now(&self) -> u64 {
        let start = *lock(&self.start).get_or_insert_with(Instant::now);
        start.elapsed().as_millis() as u64 + 1
    }

    fn begins(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    fn ends(&self, something_came: bool) {
        self.began.fetch_or(something_came, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
    }

    fn run(&self, child: &Mutex<Child>, Patience { first, later }: Patience) {
        while !self.over.load(Ordering::Relaxed) {
            let patience = if self.began.load(Ordering::Relaxed) { later } else { first };
            std::thread::sleep(GLANCE);
            let since = self.since.load(Ordering::Relaxed);
            if since > 0 && self.now().saturating_sub(since) > patience.as_millis() as u64 {
                self.killed.store(true, Ordering::Relaxed);
                // One that was waited for is not there any more, and nobody else is killed in its place.
                let _ = lock(child).kill();
                return;
            }
        }
    }
}

/// Reads a child's complaints to their end, so that it never waits for a reader, and keeps the last line.
fn listen(stderr: ChildStderr, said: &Mutex<String>) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines).take(MOST_SAID).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim();
                if !text.is_empty() {
                    *lock(said) = printable(text);
                }
            }
        }
    }
}

fn not_started(program: &Path, error: &io::Error) -> Error {
    let program = program.display();
    Error::Video(match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{program} is not installed: videos and URLs are read and written through the package ffmpeg (apt install ffmpeg); \
             YUV4MPEG2 (.y4m), folders of photos and cameras need none"
        ),
        _ => format!("{program} cannot be started: {error}"),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, writes: bool, patience: Option<Duration>) -> Running {
        let patience = patience.map(|later| Patience { first: 3 * later, later });
        Running::start(Path::new("sh"), vec!["-c".into(), script.into()], writes, patience).unwrap()
    }

    /// Whether a process is there, as a zombie too.
    fn is_there(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn its_output_its_end_and_its_last_words_are_known() {
        let mut running = shell("echo one >&2; printf abc; echo 'two\x1b' >&2; echo >&2; exit 3", false, None);
        let (mut room, mut firsts) = ([0; 5], 0);
        assert_eq!(running.read(&mut room, || firsts += 1).unwrap(), 3);
        assert_eq!((&room[..3], firsts), (b"abc".as_slice(), 1));
        let ended = running.end().unwrap();
        assert_eq!(ended.why(), r"exit status: 3: two\u{1b}");
        assert!(!ended.silent);
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_its_package() {
        let error = Running::start(Path::new("/nowhere/ffmpeg"), Vec::new(), false, None).err().unwrap().to_string();
        assert!(
            error.starts_with("/nowhere/ffmpeg is not installed") && error.contains("apt install ffmpeg"),
            "{error}"
        );
        let error = Running::start(Path::new("/dev/null"), Vec::new(), false, None).err().unwrap().to_string();
        assert!(error.starts_with("/dev/null cannot be started: "), "{error}");
    }

    #[test]
    fn dropped_it_is_gone() {
        let running = shell("exec sleep 600", false, None);
        let id = running.id();
        assert!(is_there(id));
        drop(running);
        assert!(!is_there(id));
    }

    #[test]
    fn one_that_is_silent_for_too_long_is_killed() {
        let start = Instant::now();
        let mut running = shell("printf abc; exec sleep 600", false, Some(Duration::from_millis(300)));
        assert_eq!(running.read(&mut [0; 8], || {}).unwrap(), 3);
        assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&start.elapsed()));
        assert!(running.end().unwrap().silent);
    }

    #[test]
    fn it_may_take_longer_to_begin() {
        let mut running = shell("sleep 0.5; printf abc; exec sleep 600", false, Some(Duration::from_millis(400)));
        assert_eq!(running.read(&mut [0; 8], || {}).unwrap(), 3);
        let mut running = shell("exec sleep 600", false, Some(Duration::from_millis(100)));
        assert_eq!(running.read(&mut [0; 8], || {}).unwrap(), 0);
        assert!(running.end().unwrap().silent);
    }

    #[test]
    fn one_that_nobody_reads_from_is_not_taken_for_silent() {
        let mut running = shell("printf abc; sleep 0.5; printf d", false, Some(Duration::from_millis(200)));
        assert_eq!(running.read(&mut [0; 3], || {}).unwrap(), 3);
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(running.read(&mut [0; 1], || {}).unwrap(), 1);
        assert!(!running.end().unwrap().silent);
    }

    #[test]
    fn one_that_complains_without_end_waits_for_nobody() {
        let mut running = shell("head -c 3000000 /dev/zero >&2; printf x", false, None);
        assert_eq!(running.read(&mut [0; 1], || {}).unwrap(), 1);
        running.end().unwrap();
    }

    #[test]
    fn what_closes_its_output_and_stays_is_ended() {
        let mut running = shell("exec >&-; exec sleep 600", false, None);
        assert_eq!(running.read(&mut [0; 1], || {}).unwrap(), 0);
        let ended = running.end().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(9));
    }

    #[test]
    fn a_child_that_is_dead_is_not_written_to_for_ever() {
        use std::io::Write;
        let mut running = shell("head -c 10 > /dev/null; echo full >&2; exit 7", true, None);
        let error = running.input().unwrap().write_all(&[0; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(running.end().unwrap().why(), "exit status: 7: full");
    }
}
