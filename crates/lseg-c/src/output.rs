//! What a frame shall yield, and the caller's memory for it.

#![allow(unsafe_code)] // What the pointers of an output point to.

use std::ffi::c_void;
use std::slice;

use lseg_fast::image::npy::Dtype;
use lseg_fast::image::palette::Palette;
use lseg_fast::{Alpha, EmbeddingForm, Layout, Output, Results, Threshold, Wanted};

use crate::codes::{self, lseg_kind};
use crate::given::{self, Struct};
use crate::status::{Failure, invalid};
use lseg_kind::*;

/// One result of a frame, and the caller's memory for it. The same one serves again, for frame after frame.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lseg_output {
    /// sizeof(lseg_output); the same in all outputs of a call.
    pub size: usize,
    /// enum lseg_kind
    pub kind: i32,
    /// Of an embedding: enum lseg_layout.
    pub layout: i32,
    /// Of an embedding: enum lseg_at.
    pub at: i32,
    /// Of an embedding: whether each vector is brought to length 1.
    pub normalise: i32,
    /// Where it goes, in the host's memory.
    pub data: *mut c_void,
    /// How many bytes are there; lseg_output_bytes tells how many it takes.
    pub bytes: usize,
    /// Bytes from a row to the next, not fewer than a row's own; 0 is a row's own.
    pub pitch: usize,
    /// Of an overlay: red, green and blue of each label; NULL is the colours that the program takes.
    pub colours: *const u8,
    /// Of an overlay: the weight of the labels' colours, above 0 and up to 1; 0 is a half.
    pub alpha: f64,
    /// lseg_output_bytes writes here what the rows and columns of enum lseg_kind are.
    pub shape: [usize; 3],
}

// SAFETY: repr(C), zeros are NULL and 0, and fields of eight bytes lie at multiples of eight.
unsafe impl Struct for lseg_output {
    const NAME: &'static str = "lseg_output";
}

/// Kinds, and so outputs of a call at most.
const MOST: usize = lseg_kind::ALL.len();
/// Their names, so that a frame makes none.
const ARGUMENTS: [&str; MOST] = [
    "outputs[0]",
    "outputs[1]",
    "outputs[2]",
    "outputs[3]",
    "outputs[4]",
    "outputs[5]",
    "outputs[6]",
    "outputs[7]",
    "outputs[8]",
];

/// An output that has been looked at.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    kind: lseg_kind,
    /// Of an embedding.
    form: EmbeddingForm,
    given: lseg_output,
}

/// The outputs of a call.
pub(crate) struct Outputs {
    all: [Option<Asked>; MOST],
}

impl Outputs {
    /// # Safety
    /// `given` is NULL or points to `count` outputs of the size that the first one says.
    pub unsafe fn of(given: *const lseg_output, count: usize) -> Result<Outputs, Failure> {
        if count == 0 || count > MOST {
            return Err(invalid(format!("{count} outputs: expected 1 to {MOST}, each of a kind of its own")));
        }
        // SAFETY: there is one at least.
        let stride = unsafe { given::size_of_given(given, "outputs")? };
        let mut all = [None; MOST];
        for at in 0..count {
            let argument = ARGUMENTS[at];
            // SAFETY: all of them are there, one `stride` behind the other.
            let one = unsafe { given.byte_add(at * stride) };
            // SAFETY: as this function's.
            let given = unsafe { given::versioned(one, argument)? };
            if given.size != stride {
                return Err(invalid(format!("{argument}.size is {}, that of the first {stride}", given.size)));
            }
            let asked = Asked::of(given, argument)?;
            if all.iter().flatten().any(|other: &Asked| other.output() == asked.output()) {
                return Err(invalid(format!("{argument}: {:?} is asked for twice", asked.kind)));
            }
            all[at] = Some(asked);
        }
        Ok(Outputs { all })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Asked> {
        self.all.iter().flatten()
    }

    /// What they are, without the caller's memory.
    pub fn kinds(&self) -> Kinds {
        Kinds(self.all.map(|asked| asked.map(|asked| (asked.kind, asked.form))))
    }

    /// What a stream's frames are asked for, whose words may change: an overlay has its own colours for the first labels.
    ///
    /// # Safety
    /// Colours of the caller's are there for each of so many labels.
    pub unsafe fn of_stream(
        &self,
        threshold: Option<Threshold>,
        labels: usize,
    ) -> Result<(Wanted<'static>, Option<(Palette, Alpha)>), Failure> {
        let mut wanted = threshold.map_or(Wanted::default(), |threshold| Wanted::default().threshold(threshold));
        let mut overlay = None;
        for asked in self.iter() {
            match asked.output() {
                Output::Overlay => {
                    // SAFETY: as this function's.
                    let colours = unsafe { asked.own_colours(labels) };
                    overlay = Some((colours.map_or_else(Palette::default, Palette::of), asked.alpha()?));
                }
                Output::Embedding => wanted = wanted.embedding(asked.form),
                output => wanted = wanted.and(output),
            }
        }
        Ok((wanted, overlay))
    }

    /// What the engine is asked for. An overlay takes its own colours, or these.
    ///
    /// # Safety
    /// Colours of the caller's are there for each of so many labels, for `'a`.
    pub unsafe fn wanted<'a>(
        &self,
        threshold: Option<Threshold>,
        colours: &'a [[u8; 3]],
    ) -> Result<Wanted<'a>, Failure> {
        let mut wanted = threshold.map_or(Wanted::default(), |threshold| Wanted::default().threshold(threshold));
        for asked in self.iter() {
            // SAFETY: as this function's.
            wanted = unsafe { asked.add_to(wanted, colours)? };
        }
        Ok(wanted)
    }
}

impl Asked {
    /// # Errors
    /// LSEG_INVALID for numbers that choose nothing.
    pub fn of(given: lseg_output, argument: &str) -> Result<Asked, Failure> {
        let kind = codes::kind(given.kind, argument)?;
        let dtype = if kind == LSEG_EMBEDDING_F16 { Dtype::F16 } else { Dtype::F32 };
        let (layout, at) = (codes::layout(given.layout, argument)?, codes::at(given.at, argument)?);
        Ok(Asked { kind, form: EmbeddingForm { at, dtype, layout, normalise: given.normalise != 0 }, given })
    }

    pub fn output(&self) -> Output {
        output(self.kind)
    }

    /// # Safety
    /// As [`Outputs::wanted`].
    pub unsafe fn add_to<'a>(&self, wanted: Wanted<'a>, colours: &'a [[u8; 3]]) -> Result<Wanted<'a>, Failure> {
        match self.output() {
            Output::Overlay => {}
            Output::Embedding => return Ok(wanted.embedding(self.form)),
            output => return Ok(wanted.and(output)),
        }
        // SAFETY: as this function's.
        let own = unsafe { self.own_colours(colours.len()) };
        Ok(wanted.overlay(own.unwrap_or(colours), self.alpha()?))
    }

    /// Of an overlay.
    fn alpha(&self) -> Result<Alpha, Failure> {
        let weight = if self.given.alpha == 0.0 { 0.5 } else { self.given.alpha };
        Alpha::new(weight).ok_or_else(|| {
            invalid(format!("the overlay's alpha is {weight}: expected a weight up to 1, or 0 for a half"))
        })
    }

    /// Of an overlay, where the caller has some.
    ///
    /// # Safety
    /// They are there for each of so many labels, for `'a`.
    unsafe fn own_colours<'a>(&self, labels: usize) -> Option<&'a [[u8; 3]]> {
        let colours = self.given.colours.cast();
        // SAFETY: the caller's colours, one a label.
        (!self.given.colours.is_null()).then(|| unsafe { slice::from_raw_parts(colours, labels) })
    }

    /// Bytes of a value.
    fn element(&self) -> usize {
        match self.kind {
            LSEG_MASK8 | LSEG_CONFIDENCE | LSEG_OVERLAY => 1,
            LSEG_MASK16 | LSEG_EMBEDDING_F16 => 2,
            LSEG_SCORES | LSEG_PROBABILITIES | LSEG_BEST | LSEG_EMBEDDING_F32 => 4,
        }
    }

    /// How it lies in the caller's memory.
    fn rows(&self, shape: [usize; 3]) -> Result<Rows, Failure> {
        let Asked { kind, given, form } = self;
        let [first, second, third] = shape;
        // Of pixels that follow each other a row has all channels; planes have rows of their own.
        let planes = match kind {
            LSEG_SCORES | LSEG_PROBABILITIES => true,
            LSEG_EMBEDDING_F16 | LSEG_EMBEDDING_F32 => form.layout == Layout::Chw,
            _ => false,
        };
        let (rows, values) = match planes {
            true => (first.checked_mul(second), Some(third)),
            false => (Some(first), second.checked_mul(third)),
        };
        let too_large = || invalid(format!("{kind:?} of {shape:?} values is larger than memory"));
        let (rows, row) = rows.zip(values.and_then(|n| n.checked_mul(self.element()))).ok_or_else(too_large)?;
        let pitch = if given.pitch == 0 { row } else { given.pitch };
        if pitch < row {
            return Err(invalid(format!("the pitch of {kind:?} is {pitch}: a row takes {row} bytes")));
        }
        let bytes = (rows - 1).checked_mul(pitch).and_then(|before| before.checked_add(row));
        let bytes = bytes.filter(|bytes| *bytes <= isize::MAX as usize).ok_or_else(too_large)?;
        Ok(Rows { rows, row, pitch, bytes })
    }

    /// The caller's struct with what lseg_output_bytes tells.
    pub fn told(&self, shape: [usize; 3]) -> Result<lseg_output, Failure> {
        Ok(lseg_output { bytes: self.rows(shape)?.bytes, shape, ..self.given })
    }

    /// Whether the caller's memory is there, and enough.
    pub fn check_room(&self, shape: [usize; 3]) -> Result<(), Failure> {
        let Asked { kind, given, .. } = self;
        let Rows { bytes, .. } = self.rows(shape)?;
        if given.data.is_null() {
            return Err(invalid(format!("the data of {kind:?} is NULL: expected room for {bytes} bytes")));
        }
        if given.bytes < bytes {
            return Err(invalid(format!("{} bytes for {kind:?}: this image's takes {bytes}", given.bytes)));
        }
        Ok(())
    }

    /// Copies it from the results into the caller's memory.
    ///
    /// # Safety
    /// It was checked by [`Asked::check_room`], for results of the same shape; nobody else uses that memory.
    pub unsafe fn copy(&self, results: &Results) -> Result<(), Failure> {
        let output = self.output();
        let shape = results.shape(output).expect("what was wanted is there");
        self.check_room(shape)?;
        let Rows { rows, row, pitch, .. } = self.rows(shape)?;
        let values = self.values(results).expect("what was wanted is there");
        if pitch == row {
            // SAFETY: room for all rows, one behind the other.
            unsafe { values.as_ptr().copy_to_nonoverlapping(self.given.data.cast(), rows * row) };
            return Ok(());
        }
        for (at, values) in values.chunks_exact(row).enumerate() {
            // SAFETY: room for so many rows, `pitch` bytes from one to the next.
            unsafe { values.as_ptr().copy_to_nonoverlapping(self.given.data.cast::<u8>().add(at * pitch), row) };
        }
        Ok(())
    }

    fn values<'a>(&self, results: &'a Results) -> Option<&'a [u8]> {
        match self.kind {
            LSEG_MASK8 => results.mask8(0),
            LSEG_MASK16 => results.mask(0).map(bytes_of),
            LSEG_CONFIDENCE => results.confidence(0),
            LSEG_OVERLAY => results.overlay(0),
            LSEG_EMBEDDING_F16 => results.halves(Output::Embedding, 0).map(bytes_of),
            _ => results.values(self.output(), 0).map(bytes_of),
        }
    }
}

/// What the outputs of some call were.
pub(crate) struct Kinds([Option<(lseg_kind, EmbeddingForm)>; MOST]);

impl Kinds {
    /// # Errors
    /// LSEG_INVALID where an output is none of them.
    pub fn check(&self, asked: &Asked) -> Result<(), Failure> {
        let Some((_, form)) = self.0.iter().flatten().find(|(kind, _)| *kind == asked.kind) else {
            return Err(not_asked_for(asked.kind));
        };
        if asked.output() == Output::Embedding && *form != asked.form {
            let (kind, found) = (asked.kind, asked.form);
            return Err(invalid(format!("{kind:?} as {found:?}: the stream has begun with {form:?}")));
        }
        Ok(())
    }

    /// The output of a kind.
    ///
    /// # Errors
    /// LSEG_INVALID where it is none of them.
    pub fn output(&self, kind: lseg_kind) -> Result<Output, Failure> {
        let is_there = self.0.iter().flatten().any(|(known, _)| *known == kind);
        if is_there { Ok(output(kind)) } else { Err(not_asked_for(kind)) }
    }
}

fn not_asked_for(kind: lseg_kind) -> Failure {
    invalid(format!("{kind:?} is none of the outputs that the stream has begun with"))
}

/// What the library calls it.
fn output(kind: lseg_kind) -> Output {
    match kind {
        LSEG_MASK8 => Output::Mask8,
        LSEG_MASK16 => Output::Mask,
        LSEG_CONFIDENCE => Output::Confidence,
        LSEG_SCORES => Output::Scores,
        LSEG_PROBABILITIES => Output::Probabilities,
        LSEG_BEST => Output::Best,
        LSEG_OVERLAY => Output::Overlay,
        LSEG_EMBEDDING_F16 | LSEG_EMBEDDING_F32 => Output::Embedding,
    }
}

/// Rows of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    rows: usize,
    row: usize,
    pitch: usize,
    /// From the first row's first byte to the last row's last.
    bytes: usize,
}

/// Numbers as they lie in memory.
fn bytes_of<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: integers and floats have no padding.
    unsafe { slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}
