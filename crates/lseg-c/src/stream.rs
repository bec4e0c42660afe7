//! A camera's flow: frames in by one thread, answers out by another, words changed by a third.

#![allow(unsafe_code)] // What the pointers of a call point to.

use std::ffi::{CString, c_char};
use std::sync::Arc;
use std::time::Duration;
use std::{mem, ptr};

use lseg_fast::stream::{Pushed, Realtime, Stats, Stream, StreamOptions};
use lseg_fast::{LabelOptions, Network, labels};

use crate::answer::{lseg_answer, nanoseconds};
use crate::codes;
use crate::engine::{Open, c_text, lseg_engine, with};
use crate::given::{self, Struct};
use crate::image::{self, lseg_image};
use crate::output::{Kinds, Outputs, lseg_output};
use crate::status::lseg_status::{self, *};
use crate::status::{Failure, answered, guarded, invalid};

/// Frames that may wait where every one is computed and nothing else is said.
const QUEUE: u32 = 4;

/// Frames in, answers out, computed by a thread of its own over an engine's weights. Any thread may call with it, several at once. It
/// may outlive its engine, and its answers may outlive it.
pub struct lseg_stream {
    stream: Stream,
    /// For the process that it is of.
    network: Network,
    /// How words become labels.
    options: LabelOptions,
    kinds: Arc<Kinds>,
    notes: CString,
}

/// How a stream works. All zeros but for the size is a good choice.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lseg_stream_options {
    /// sizeof(lseg_stream_options)
    pub size: usize,
    /// enum lseg_policy
    pub policy: i32,
    /// enum lseg_waiting
    pub wait: i32,
    /// Of LSEG_EVERY: how many frames may wait; 0 is 4.
    pub queue: u32,
    /// Answers that may be held or wait to be taken; of more the stream waits until one is released. 0 is 2.
    pub pool: u32,
    /// A frame that has waited for longer, in milliseconds, is not computed; 0 is never.
    pub stale_after_ms: u32,
    /// The thread's realtime priority (SCHED_FIFO), 1 to 99; 0 is none.
    pub priority: u32,
    /// Whether the process's memory is kept from being paged out (mlockall).
    pub lock_memory: i32,
    /// Whether it is an error where the system refuses priority, processors or locked memory (else lseg_stream_notes tells).
    pub realtime_required: i32,
    /// On a GPU: whether a frame is brought over only when the one before is done.
    pub no_overlap: i32,
    /// Whether results stay on the GPU: lseg_answer_tensor has them.
    pub on_device: i32,
    /// The processors that the thread may run on, cpu_count of them; NULL is all.
    pub cpus: *const u32,
    /// How many are at cpus.
    pub cpu_count: usize,
}

// SAFETY: repr(C), zeros are NULL and 0, and fields of eight bytes lie at multiples of eight.
unsafe impl Struct for lseg_stream_options {
    const NAME: &'static str = "lseg_stream_options";
}

/// What became of the frames of a stream, and how long it took. pushed = done + replaced + stale + failed + in_flight, always.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lseg_stats {
    /// sizeof(lseg_stats)
    pub size: usize,
    /// Frames that were taken.
    pub pushed: u64,
    /// Frames that were computed.
    pub done: u64,
    /// Frames in whose place a newer one was computed.
    pub replaced: u64,
    /// Frames that were not computed because they had waited too long, or the stream was stopped.
    pub stale: u64,
    /// Frames of which nothing could be computed; each one's answer says why.
    pub failed: u64,
    /// Frames that wait or are computed just now.
    pub in_flight: u64,
    /// Answers in whose place a newer one came before anybody took them.
    pub unread: u64,
    /// How often the engine was made anew.
    pub restarts: u64,
    /// From a frame's push to its answer, in nanoseconds: the median, to a sixteenth of an octave, as all of these.
    pub age_p50_ns: u64,
    /// 99 % of them are no longer.
    pub age_p99_ns: u64,
    /// The longest.
    pub age_max_ns: u64,
    /// From when a frame was taken to its answer: the median.
    pub computed_p50_ns: u64,
    /// 99 % of them are no longer.
    pub computed_p99_ns: u64,
    /// How far the time from one answer to the next is from its median: the median.
    pub jitter_p50_ns: u64,
    /// 99 % of them are no farther.
    pub jitter_p99_ns: u64,
}

// SAFETY: repr(C), zeros are 0, and all fields are of eight bytes.
unsafe impl Struct for lseg_stats {
    const NAME: &'static str = "lseg_stats";
}

/// Does a call on a stream, beside others.
///
/// # Safety
/// `stream` is NULL or a handle that lseg_stream_start gave and lseg_stream_free has not taken back.
unsafe fn with_stream(
    stream: *const lseg_stream,
    call: impl FnOnce(&lseg_stream) -> Result<lseg_status, Failure>,
) -> lseg_status {
    answered(|| {
        // SAFETY: a handle is such a pointer until it is freed.
        let stream = unsafe { stream.as_ref() };
        let stream = stream.ok_or_else(|| invalid("stream is NULL: expected one of lseg_stream_start"))?;
        // In a forked child nobody may be left to open its locks.
        stream.network.check_process()?;
        call(stream)
    })
}

/// Begins a stream over an engine's weights, with the labels, templates, size and threshold that the engine has now; nothing that is set
/// in the engine later changes it. Each frame is asked for `count` outputs: their data, bytes and pitch are not looked at; the colours of
/// an overlay are kept, and words beyond them get colours of the program's. `options` may be NULL. LSEG_DEVICE where results shall stay
/// on a GPU and there is none, and for what is required of the system and refused; `*stream` is NULL then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_start(
    engine: *const lseg_engine,
    options: *const lseg_stream_options,
    outputs: *const lseg_output,
    count: usize,
    stream: *mut *mut lseg_stream,
) -> lseg_status {
    // SAFETY: the caller's handle, structs and place.
    unsafe {
        with(engine, |open| {
            let place = given::place(stream, "stream")?;
            place.write(ptr::null_mut());
            let own = stream_options(options)?;
            let outputs = Outputs::of(outputs, count)?;
            place.write(Box::into_raw(Box::new(start(open, own, &outputs)?)));
            Ok(())
        })
    }
}

/// # Safety
/// Colours of an overlay are there for each label.
unsafe fn start(open: &Open, mut options: StreamOptions, outputs: &Outputs) -> Result<lseg_stream, Failure> {
    let (engine, lane) = (&open.engine, open.engine.lane());
    // SAFETY: as this function's.
    (options.wanted, options.overlay) = unsafe { outputs.of_stream(open.threshold, open.colours.len())? };
    (options.size, options.normalisation) = (lane.size(), lane.normalisation());
    let labels = lane.label_slot().get();
    let stream = Stream::start(engine.network(), labels.as_ref(), options)?;
    let notes = c_text(&stream.notes().join("\n"));
    let (network, options) = (engine.network().clone(), engine.label_options().clone());
    Ok(lseg_stream { stream, network, options, kinds: Arc::new(outputs.kinds()), notes })
}

/// # Safety
/// `options` is NULL or points to as many bytes as its first field says.
unsafe fn stream_options(options: *const lseg_stream_options) -> Result<StreamOptions, Failure> {
    let mut own = StreamOptions::default();
    if options.is_null() {
        return Ok(own);
    }
    // SAFETY: as this function's.
    let given = unsafe { given::versioned(options, "options")? };
    let queue = if given.queue == 0 { QUEUE } else { given.queue };
    own.policy = codes::policy(given.policy, queue as usize, "options")?;
    own.wait = codes::waiting(given.wait, "options")?;
    if given.pool > 0 {
        own.pool = given.pool as usize;
    }
    own.stale_after = Some(Duration::from_millis(given.stale_after_ms.into())).filter(|time| !time.is_zero());
    own.overlap = given.no_overlap == 0;
    own.on_device = given.on_device != 0;
    // SAFETY: the caller's processors.
    let cpus = unsafe { given::array(given.cpus, given.cpu_count, "options.cpus")? };
    let priority = u8::try_from(given.priority).ok().filter(|priority| *priority <= 99);
    let out_of_range = || invalid(format!("options.priority is {}: expected 1 to 99, or 0 for none", given.priority));
    let realtime = Realtime {
        priority: priority.ok_or_else(out_of_range)?,
        cpus: cpus.iter().map(|cpu| *cpu as usize).collect(),
        lock_memory: given.lock_memory != 0,
        required: given.realtime_required != 0,
    };
    own.realtime = Some(realtime);
    Ok(own)
}

/// What the system has refused of priority, processors and locked memory: a line each, empty where it is nothing. Text that is there
/// until lseg_stream_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_notes(stream: *const lseg_stream, notes: *mut *const c_char) -> lseg_status {
    // SAFETY: the caller's handle and place.
    unsafe {
        with_stream(stream, |stream| {
            given::place(notes, "notes")?.write(stream.notes.as_ptr());
            Ok(LSEG_OK)
        })
    }
}

/// Copies a frame, which the caller may use again at once, and gives it to the stream; waits for nothing. The stamp is the caller's,
/// nanoseconds by whatever clock: its answer has it. `*sequence` (which may be NULL) is its number: how many were taken before it.
/// LSEG_FULL where it is not taken, because as many wait as may (of LSEG_EVERY alone). LSEG_DEVICE for an image in CUDA memory,
/// LSEG_BUSY once the stream is closed, LSEG_LOST where it has ended by an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_push(
    stream: *mut lseg_stream,
    image: *const lseg_image,
    stamp_ns: i64,
    sequence: *mut u64,
) -> lseg_status {
    // SAFETY: the caller's handle, struct, memory and place.
    unsafe {
        with_stream(stream, |stream| {
            let image = image::image(image)?;
            let place = (!sequence.is_null()).then(|| given::place(sequence, "sequence")).transpose()?;
            let (Pushed::Accepted(number) | Pushed::Replaced(number, _)) = stream.stream.push(&image, stamp_ns)? else {
                return Ok(LSEG_FULL);
            };
            if let Some(place) = place {
                place.write(number);
            }
            Ok(LSEG_OK)
        })
    }
}

/// The next answer, if there is one, to be given back by lseg_answer_release: of LSEG_NEWEST the last that was computed, else in the
/// order of the frames. LSEG_EMPTY where there is none, and `*answer` is NULL then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_poll(stream: *mut lseg_stream, answer: *mut *mut lseg_answer) -> lseg_status {
    // SAFETY: the caller's handle and place.
    unsafe { take(stream, answer, |stream| Ok(stream.poll())) }
}

/// As lseg_stream_poll, waiting for so long at most. LSEG_EMPTY at once where nothing will come any more (lseg_stream_is_over), LSEG_LOST
/// where the stream has ended by an error and all answers are taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_recv(
    stream: *mut lseg_stream,
    timeout_ms: u32,
    answer: *mut *mut lseg_answer,
) -> lseg_status {
    let timeout = Duration::from_millis(timeout_ms.into());
    // SAFETY: the caller's handle and place.
    unsafe { take(stream, answer, |stream| stream.recv(timeout)) }
}

/// # Safety
/// A handle and a place of the caller's.
unsafe fn take(
    stream: *mut lseg_stream,
    answer: *mut *mut lseg_answer,
    call: impl FnOnce(&Stream) -> lseg_fast::Result<Option<lseg_fast::stream::Answer>>,
) -> lseg_status {
    // SAFETY: as this function's.
    unsafe {
        with_stream(stream, |stream| {
            let place = given::place(answer, "answer")?;
            place.write(ptr::null_mut());
            let Some(answer) = call(&stream.stream)? else { return Ok(LSEG_EMPTY) };
            place.write(Box::into_raw(Box::new(lseg_answer::new(answer, Arc::clone(&stream.kinds)))));
            Ok(LSEG_OK)
        })
    }
}

/// Other words from the next frame on, with the templates that the engine had when the stream began; frames that are computed keep
/// theirs. They are encoded on the caller's thread, beside running frames. `*epoch` (which may be NULL) is their number, which answers
/// about them have. Where it fails the words stay as they are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_set_labels(
    stream: *mut lseg_stream,
    labels: *const *const c_char,
    count: usize,
    epoch: *mut u64,
) -> lseg_status {
    // SAFETY: the caller's handle, texts and place.
    unsafe {
        with_stream(stream, |stream| {
            let place = (!epoch.is_null()).then(|| given::place(epoch, "epoch")).transpose()?;
            let list = labels::checked(&given::texts(labels, count, "labels")?)?;
            let number = stream.stream.set_list(&list, &stream.options)?;
            if let Some(place) = place {
                place.write(number);
            }
            Ok(LSEG_OK)
        })
    }
}

/// What became of its frames so far; `stats->size` is to be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_stats(stream: *const lseg_stream, stats: *mut lseg_stats) -> lseg_status {
    // SAFETY: the caller's handle and struct.
    unsafe {
        with_stream(stream, |stream| {
            let size = given::versioned(stats, "stats")?.size;
            given::write_back(stats, &told(size, &stream.stream.stats()));
            Ok(LSEG_OK)
        })
    }
}

fn told(size: usize, stats: &Stats) -> lseg_stats {
    let Stats { pushed, done, replaced, stale, failed, in_flight, unread, restarts, age, computed, interval } = stats;
    lseg_stats {
        size,
        pushed: *pushed,
        done: *done,
        replaced: *replaced,
        stale: *stale,
        failed: *failed,
        in_flight: *in_flight,
        unread: *unread,
        restarts: *restarts,
        age_p50_ns: nanoseconds(age.quantile(0.5)),
        age_p99_ns: nanoseconds(age.quantile(0.99)),
        age_max_ns: nanoseconds(age.most()),
        computed_p50_ns: nanoseconds(computed.quantile(0.5)),
        computed_p99_ns: nanoseconds(computed.quantile(0.99)),
        jitter_p50_ns: nanoseconds(interval.deviation(0.5)),
        jitter_p99_ns: nanoseconds(interval.deviation(0.99)),
    }
}

/// No more frames: those that wait are computed, and their answers can be taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_close_input(stream: *mut lseg_stream) -> lseg_status {
    // SAFETY: the caller's handle.
    unsafe {
        with_stream(stream, |stream| {
            stream.stream.close();
            Ok(LSEG_OK)
        })
    }
}

/// Whether the stream has ended and all answers are taken: `*is_over` is 1 or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_is_over(stream: *const lseg_stream, is_over: *mut i32) -> lseg_status {
    // SAFETY: the caller's handle and place.
    unsafe {
        with_stream(stream, |stream| {
            given::place(is_over, "is_over")?.write(stream.stream.is_over().into());
            Ok(LSEG_OK)
        })
    }
}

/// Ends the stream: frames in flight are finished, those that wait are not computed (they count as stale), and its thread is gone when
/// this returns. Answers that are there can still be taken. LSEG_LOST where it had ended by an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_stop(stream: *mut lseg_stream) -> lseg_status {
    // SAFETY: the caller's handle.
    unsafe {
        with_stream(stream, |stream| {
            stream.stream.stop()?;
            Ok(LSEG_OK)
        })
    }
}

/// Stops a stream and gives it back; NULL is nothing. No call may be inside it. Answers that it gave stay until they are released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_stream_free(stream: *mut lseg_stream) {
    guarded(|| {
        if !stream.is_null() {
            // SAFETY: lseg_stream_start made it so, and it is freed once.
            let stream = unsafe { Box::from_raw(stream) };
            match stream.network.check_process() {
                Ok(()) => drop(stream),
                // A forked child has no such thread, for which to wait.
                Err(_) => mem::forget(stream),
            }
        }
        Ok(())
    });
}
