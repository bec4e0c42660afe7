//! An engine: opened, told its words and sizes, asked about itself.

#![allow(unsafe_code)] // What the pointers of a call point to.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::ptr;
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use lseg_fast::image::palette::palette;
use lseg_fast::{Engine, Network, Options, Results, Threshold};

use crate::codes;
use crate::given::{self, Struct};
use crate::status::lseg_status::{self, *};
use crate::status::{Failure, guarded, invalid};

/// A model on a device, with its words. One thread at a time may call with it, any thread; a call that comes while another is
/// inside answers LSEG_BUSY.
pub struct lseg_engine(Mutex<Open>);

/// What an engine is made of. All zeros but for the size is a good choice.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lseg_options {
    /// sizeof(lseg_options)
    pub size: usize,
    /// A file that `lseg-fast convert` has made, or a published checkpoint; NULL is the demo model inside the library.
    pub model: *const c_char,
    /// "auto", "cpu", "cuda" or "cuda:1"; NULL is "auto": a GPU where one works, else the CPU.
    pub device: *const c_char,
    /// enum lseg_context
    pub context: i32,
    /// enum lseg_wait
    pub wait: i32,
    /// CPU threads; 0 is one a core.
    pub threads: u32,
    /// How long a GPU may take for one pass before the engine is lost, in milliseconds; 0 is as long as it likes.
    pub timeout_ms: u32,
    /// The most bytes that the engine may take, of the host's memory and again of a GPU's; 0 is three quarters of what is free.
    pub memory: u64,
}

// SAFETY: repr(C), zeros are NULL and 0, and fields of eight bytes lie at multiples of eight.
unsafe impl Struct for lseg_options {
    const NAME: &'static str = "lseg_options";
}

/// What is behind a handle.
pub(crate) struct Open {
    pub engine: Engine,
    /// Whose memory serves again.
    pub results: Results,
    /// One colour a label.
    pub colours: Vec<[u8; 3]>,
    pub threshold: Option<Threshold>,
    labels: Labels,
    device: CString,
}

/// The labels as C reads them.
#[derive(Default)]
pub(crate) struct Labels {
    pub texts: Vec<CString>,
    pub pointers: Vec<*const c_char>,
}

// SAFETY: the pointers are to the texts beside them.
unsafe impl Send for Labels {}

impl Labels {
    pub fn of(names: &[String]) -> Labels {
        let texts: Vec<CString> = names.iter().map(|name| c_text(name)).collect();
        let pointers = texts.iter().map(|text| text.as_ptr()).collect();
        Labels { texts, pointers }
    }
}

pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{FFFD}")).expect("zero bytes were replaced")
}

/// Does a call on an engine, alone.
///
/// # Safety
/// `engine` is NULL or a handle that lseg_open gave and lseg_close has not taken back.
pub(crate) unsafe fn with(
    engine: *const lseg_engine,
    call: impl FnOnce(&mut Open) -> Result<(), Failure>,
) -> lseg_status {
    guarded(|| {
        // SAFETY: a handle is such a pointer until it is closed.
        let Some(handle) = (unsafe { engine.as_ref() }) else {
            return Err(invalid("engine is NULL: expected one of lseg_open"));
        };
        match handle.0.try_lock() {
            Ok(mut open) => call(&mut open),
            Err(TryLockError::WouldBlock) => {
                let message = "another thread is inside this engine: one may be at a time".to_owned();
                Err(Failure { status: LSEG_BUSY, message })
            }
            Err(TryLockError::Poisoned(_)) => {
                let message = "an earlier call on this engine ended by a fault in lseg-fast: close it".to_owned();
                Err(Failure { status: LSEG_LOST, message })
            }
        }
    })
}

/// Opens a model on a device: LSEG_MODEL, LSEG_DEVICE or LSEG_NO_MEMORY where that fails, and `*engine` is NULL then. `options` may
/// be NULL: the demo model, on a GPU where one works.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_open(options: *const lseg_options, engine: *mut *mut lseg_engine) -> lseg_status {
    guarded(|| {
        // SAFETY: room for a pointer, says the caller.
        let engine = unsafe { given::place(engine, "engine")? };
        engine.write(ptr::null_mut());
        // SAFETY: NULL, or a struct with its size.
        let open = unsafe { open(options)? };
        engine.write(Box::into_raw(Box::new(lseg_engine(Mutex::new(open)))));
        Ok(())
    })
}

/// # Safety
/// `options` is NULL or points to as many bytes as its first field says.
unsafe fn open(options: *const lseg_options) -> Result<Open, Failure> {
    let (mut model, mut own) = (None, Options::default());
    own.context = codes::context(0, "options")?;
    if !options.is_null() {
        // SAFETY: as this function's.
        let given = unsafe { given::versioned(options, "options")? };
        let text = |text: *const c_char, argument| {
            // SAFETY: a text, as the header says.
            (!text.is_null()).then(|| unsafe { given::text(text, argument) }).transpose()
        };
        model = text(given.model, "options.model")?;
        if let Some(device) = text(given.device, "options.device")? {
            own.device = device.parse()?;
        }
        own.context = codes::context(given.context, "options")?;
        own.wait = codes::wait(given.wait, "options")?;
        own.threads = Some(given.threads as usize).filter(|threads| *threads > 0);
        own.timeout = Some(Duration::from_millis(given.timeout_ms.into())).filter(|time| !time.is_zero());
        own.memory = Some(given.memory).filter(|bytes| *bytes > 0);
    }
    let engine = match model {
        Some(path) => Engine::load(Path::new(path), &own)?,
        None => Engine::load_demo(&own)?,
    };
    let device = c_text(engine.device());
    Ok(Open {
        engine,
        results: Results::default(),
        colours: Vec::new(),
        threshold: None,
        labels: Labels::default(),
        device,
    })
}

/// Gives an engine back; NULL is nothing. No call may be inside it. Tensors that it gave stay until they are released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_close(engine: *mut lseg_engine) {
    guarded(|| {
        if !engine.is_null() {
            // SAFETY: lseg_open made it so, and it is closed once.
            drop(unsafe { Box::from_raw(engine) });
        }
        Ok(())
    });
}

/// The words to look for, UTF-8, in the order of a mask's values. Words that were known before cost nothing again. Where it
/// fails the old ones stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_set_labels(
    engine: *mut lseg_engine,
    labels: *const *const c_char,
    count: usize,
) -> lseg_status {
    // SAFETY: the caller's handle and texts.
    unsafe {
        with(engine, |open| {
            open.engine.set_labels(&given::texts(labels, count, "labels")?)?;
            open.labels = Labels::of(open.engine.labels());
            open.colours = palette(count);
            Ok(())
        })
    }
}

/// Texts around the words, for the next lseg_set_labels: each has a {} for the word, such as "a photo of a {}". A word is then the
/// mean of its texts. None (the default) leaves words as they are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_set_templates(
    engine: *mut lseg_engine,
    templates: *const *const c_char,
    count: usize,
) -> lseg_status {
    // SAFETY: the caller's handle and texts.
    unsafe {
        with(engine, |open| {
            let templates = given::texts(templates, count, "templates")?;
            let templates: Vec<String> = templates.into_iter().map(str::to_owned).collect();
            Ok(open.engine.set_templates(&templates)?)
        })
    }
}

/// The words that were set last: `*labels` points to `*count` texts, which are there until the next lseg_set_labels or lseg_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_labels(
    engine: *const lseg_engine,
    labels: *mut *const *const c_char,
    count: *mut usize,
) -> lseg_status {
    // SAFETY: the caller's handle and places.
    unsafe {
        with(engine, |open| {
            let (labels, count) = (given::place(labels, "labels")?, given::place(count, "count")?);
            labels.write(open.labels.pointers.as_ptr());
            count.write(open.labels.texts.len());
            Ok(())
        })
    }
}

/// The size at which the network sees the images to come: "native" (the image's own), "480x640" (height, width) or "long:480" (its
/// longer side). Sides are rounded to multiples of 32. Before this it is the model's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_set_size(engine: *mut lseg_engine, size: *const c_char) -> lseg_status {
    // SAFETY: the caller's handle and text.
    unsafe {
        with(engine, |open| {
            open.engine.set_size(given::text(size, "size")?.parse()?);
            Ok(())
        })
    }
}

/// The confidence, within 0 and 1, below which the pixels of masks and overlays to come have no label; 0 (the default) leaves each
/// pixel its label.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_set_threshold(engine: *mut lseg_engine, threshold: f64) -> lseg_status {
    // SAFETY: the caller's handle.
    unsafe {
        with(engine, |open| {
            let given = Threshold::new(threshold)
                .ok_or_else(|| invalid(format!("threshold is {threshold}: expected 0 to 1")))?;
            open.threshold = Some(given).filter(|_| threshold > 0.0);
            Ok(())
        })
    }
}

/// What it computes on, such as "cpu, 2 threads": text that is there until lseg_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_device(engine: *const lseg_engine, device: *mut *const c_char) -> lseg_status {
    // SAFETY: the caller's handle and place.
    unsafe {
        with(engine, |open| {
            given::place(device, "device")?.write(open.device.as_ptr());
            Ok(())
        })
    }
}

/// The length of an embedding, of a word or a pixel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_dimension(engine: *const lseg_engine, dimension: *mut usize) -> lseg_status {
    // SAFETY: the caller's handle and place.
    unsafe {
        with(engine, |open| {
            given::place(dimension, "dimension")?.write(open.engine.config().embed_dim);
            Ok(())
        })
    }
}

/// Embeddings of words, unit vectors: float [count][dimension] into `vectors`. Templates are not used, labels stay as they are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_text(
    engine: *mut lseg_engine,
    words: *const *const c_char,
    count: usize,
    vectors: *mut f32,
) -> lseg_status {
    // SAFETY: the caller's handle, texts and room.
    unsafe {
        with(engine, |open| {
            let words = given::texts(words, count, "words")?;
            let room = count.saturating_mul(open.engine.config().embed_dim);
            let vectors = given::array_mut(vectors, room, "vectors")?;
            vectors.copy_from_slice(&embeddings(open.engine.network(), &words)?);
            Ok(())
        })
    }
}

fn embeddings(network: &Network, words: &[&str]) -> Result<Vec<f32>, Failure> {
    Ok(network.labels(words)?.embeddings())
}
