//! What became of one frame of a stream.

#![allow(unsafe_code)] // What the pointers of a call point to.

use std::ffi::c_char;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lseg_fast::Results;
use lseg_fast::stream::Answer;

use crate::codes;
use crate::engine::Labels;
use crate::given::{self, Struct};
use crate::output::{Asked, Kinds, Outputs, lseg_output};
use crate::status::lseg_status::{self, LSEG_OK};
use crate::status::{Failure, guarded, invalid};
use crate::tensor::lseg_tensor;

/// What became of one frame, which no later one overwrites while this is held. Any thread may use it, one at a time; it may outlive its
/// stream. Releasing it frees the place of its results for another.
pub struct lseg_answer {
    answer: Answer,
    kinds: Arc<Kinds>,
    /// Once they are asked for.
    labels: OnceLock<Labels>,
}

/// What an answer is about, and how long it took.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lseg_answer_info {
    /// sizeof(lseg_answer_info)
    pub size: usize,
    /// How many frames were taken before this one.
    pub sequence: u64,
    /// As it was pushed.
    pub stamp_ns: i64,
    /// Which list of labels it was asked about: lseg_stream_set_labels tells the number of each; those that the stream began with have 1.
    pub epoch: u64,
    /// From its push until the engine took it, in nanoseconds.
    pub waited_ns: u64,
    /// From then until its results were there.
    pub computed_ns: u64,
    /// The sum: how old the frame was, from its push.
    pub age_ns: u64,
    /// enum lseg_status: LSEG_OK, or why nothing could be computed of it. lseg_answer_read has the words.
    pub status: i32,
    /// Zero.
    pub reserved: i32,
}

// SAFETY: repr(C), zeros are 0, and fields of eight bytes lie at multiples of eight.
unsafe impl Struct for lseg_answer_info {
    const NAME: &'static str = "lseg_answer_info";
}

/// 584 years at most.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl lseg_answer {
    pub(crate) fn new(answer: Answer, kinds: Arc<Kinds>) -> lseg_answer {
        lseg_answer { answer, kinds, labels: OnceLock::new() }
    }

    /// Its results in the host's memory, where these outputs are among them.
    fn results<'a>(&self, mut outputs: impl Iterator<Item = &'a Asked>) -> Result<&Results, Failure> {
        outputs.try_for_each(|asked| self.kinds.check(asked))?;
        if self.answer.on_device()?.is_some() {
            return Err(invalid("the stream leaves its results on the GPU: ask lseg_answer_tensor"));
        }
        Ok(self.answer.results()?)
    }
}

/// Does a call with an answer.
///
/// # Safety
/// `answer` is NULL or a handle that has not been released.
unsafe fn with_answer(
    answer: *const lseg_answer,
    call: impl FnOnce(&lseg_answer) -> Result<(), Failure>,
) -> lseg_status {
    guarded(|| {
        // SAFETY: a handle is such a pointer until it is released.
        let answer = unsafe { answer.as_ref() };
        call(answer.ok_or_else(|| invalid("answer is NULL: expected one of lseg_stream_poll or lseg_stream_recv"))?)
    })
}

/// What it is about; `info->size` is to be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_answer_describe(answer: *const lseg_answer, info: *mut lseg_answer_info) -> lseg_status {
    // SAFETY: the caller's handle and struct.
    unsafe {
        with_answer(answer, |answer| {
            let size = given::versioned(info, "info")?.size;
            let Answer { sequence, stamp, epoch, times, .. } = &answer.answer;
            let status = answer.answer.results().map_or_else(|error| Failure::from(error).status, |_| LSEG_OK);
            let filled = lseg_answer_info {
                size,
                sequence: *sequence,
                stamp_ns: *stamp,
                epoch: *epoch,
                waited_ns: nanoseconds(times.waited),
                computed_ns: nanoseconds(times.computed),
                age_ns: nanoseconds(times.age),
                status: status as i32,
                reserved: 0,
            };
            given::write_back(info, &filled);
            Ok(())
        })
    }
}

/// Tells how many bytes `output` takes, with the pitch that is in it, and its shape, as lseg_output_bytes does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_answer_output_bytes(answer: *const lseg_answer, output: *mut lseg_output) -> lseg_status {
    // SAFETY: the caller's handle and struct.
    unsafe {
        with_answer(answer, |answer| {
            let asked = Asked::of(given::versioned(output, "output")?, "output")?;
            let results = answer.results([&asked].into_iter())?;
            let shape = results.shape(asked.output()).expect("what was wanted is there");
            given::write_back(output, &asked.told(shape)?);
            Ok(())
        })
    }
}

/// Copies `count` outputs of those that the stream began with into their memory, as lseg_segment does. Where nothing could be computed
/// of the frame: why.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_answer_read(
    answer: *const lseg_answer,
    outputs: *const lseg_output,
    count: usize,
) -> lseg_status {
    // SAFETY: the caller's handle, structs and memory.
    unsafe {
        with_answer(answer, |answer| {
            let outputs = Outputs::of(outputs, count)?;
            let results = answer.results(outputs.iter())?;
            for asked in outputs.iter() {
                asked.check_room(results.shape(asked.output()).expect("what was wanted is there"))?;
            }
            outputs.iter().try_for_each(|asked| asked.copy(results))
        })
    }
}

/// The output of a kind (enum lseg_kind) that stays on the GPU, computed, to be given back by lseg_tensor_release; it may outlive the
/// answer. While as many frames' tensors are held as the stream has places, further frames fail with LSEG_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_answer_tensor(
    answer: *const lseg_answer,
    kind: i32,
    tensor: *mut *mut lseg_tensor,
) -> lseg_status {
    // SAFETY: the caller's handle and place.
    unsafe {
        with_answer(answer, |answer| {
            let place = given::place(tensor, "tensor")?;
            place.write(ptr::null_mut());
            let output = answer.kinds.output(codes::kind(kind, "output")?)?;
            let results = answer.answer.on_device()?.ok_or_else(|| {
                invalid("the stream brings its results to the host: lseg_answer_read, or lseg_stream_options.on_device")
            })?;
            place.write(lseg_tensor::of(results.tensor(output).expect("what was wanted is there")));
            Ok(())
        })
    }
}

/// The words that its mask's values are of: `*labels` points to `*count` texts, which are there until lseg_answer_release. None where
/// no output is about labels.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_answer_labels(
    answer: *const lseg_answer,
    labels: *mut *const *const c_char,
    count: *mut usize,
) -> lseg_status {
    // SAFETY: the caller's handle and places.
    unsafe {
        with_answer(answer, |answer| {
            let (labels, count) = (given::place(labels, "labels")?, given::place(count, "count")?);
            let given = match answer.answer.on_device()? {
                Some(results) => results.labels(),
                None => answer.answer.results()?.labels(),
            };
            let own = answer.labels.get_or_init(|| Labels::of(given.map_or(&[][..], |labels| labels.names())));
            labels.write(own.pointers.as_ptr());
            count.write(own.texts.len());
            Ok(())
        })
    }
}

/// Gives an answer back; NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_answer_release(answer: *mut lseg_answer) {
    guarded(|| {
        if !answer.is_null() {
            // SAFETY: its stream made it so, and it is released once.
            drop(unsafe { Box::from_raw(answer) });
        }
        Ok(())
    });
}
