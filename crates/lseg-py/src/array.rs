//! Arrays of other libraries as they lie in memory, by whichever protocol they speak.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyDict};
use pyo3::{ffi, intern};

use crate::dlpack::{self, Taken};
use crate::errors;

/// What an array's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    U8,
    U16,
    F16,
    F32,
}

impl Element {
    pub fn bytes(self) -> usize {
        match self {
            Element::U8 => 1,
            Element::U16 | Element::F16 => 2,
            Element::F32 => 4,
        }
    }

    /// NumPy's name.
    pub fn name(self) -> &'static str {
        match self {
            Element::U8 => "uint8",
            Element::U16 => "uint16",
            Element::F16 => "float16",
            Element::F32 => "float32",
        }
    }

    /// As the array interfaces name it, in this machine's order of bytes.
    pub fn code(self) -> &'static str {
        match (self, cfg!(target_endian = "little")) {
            (Element::U8, _) => "|u1",
            (Element::U16, true) => "<u2",
            (Element::F16, true) => "<f2",
            (Element::F32, true) => "<f4",
            (Element::U16, false) => ">u2",
            (Element::F16, false) => ">f2",
            (Element::F32, false) => ">f4",
        }
    }

    fn of(kind: u8, bytes: usize) -> Option<Element> {
        match (kind, bytes) {
            (b'u', 1) => Some(Element::U8),
            (b'u', 2) => Some(Element::U16),
            (b'f', 2) => Some(Element::F16),
            (b'f', 4) => Some(Element::F32),
            _ => None,
        }
    }
}

/// One axis of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub length: usize,
    /// Bytes from one to the next, of either sign.
    pub stride: isize,
}

/// In whose memory an array is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Host,
    /// With the stream that has it; none where all that was queued on it is done.
    Cuda {
        stream: Option<u64>,
    },
}

/// An array that was looked at.
#[derive(Clone, Debug)]
pub struct Array {
    /// Of the element whose indices are all 0.
    pub address: u64,
    pub axes: Vec<Axis>,
    pub element: Element,
    pub place: Place,
}

impl Array {
    pub fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.length).collect()
    }

    /// The arrays along its first axis.
    pub fn split(&self) -> impl Iterator<Item = Array> + '_ {
        let first = self.axes[0];
        (0..first.length).map(move |at| Array {
            address: self.address.wrapping_add_signed((first.stride * at as isize) as i64),
            axes: self.axes[1..].to_vec(),
            ..*self
        })
    }
}

/// What keeps an array's memory, to be dropped with Python attached.
#[expect(dead_code, reason = "nothing is asked of it but that it stays")]
pub enum Keep {
    /// The object itself.
    Object(Py<PyAny>),
    Tensor(Taken),
}

/// Why an engine on the CPU takes no CUDA memory.
pub const ON_THE_CPU: &str = "an image in CUDA memory: the engine is on the CPU; make one with device=\"cuda\", or copy the image to the \
                          host first (in PyTorch: .cpu())";

/// The array that an object is, and what keeps it. The protocols are asked from the cheapest on; `stream` is the engine's, after
/// which a producer of CUDA memory is to order what it has queued, or says why no CUDA memory is taken.
///
/// # Errors
/// `lseg_fast.errors.InputError` for what is no array, or none of elements that are taken.
pub fn look(object: &Bound<'_, PyAny>, stream: Result<u64, &str>) -> PyResult<(Array, Keep)> {
    let py = object.py();
    if let Some(interface) = object.getattr_opt(intern!(py, "__array_struct__"))? {
        return of_struct(object, &interface);
    }
    if object.hasattr(intern!(py, "__dlpack__"))? && object.hasattr(intern!(py, "__dlpack_device__"))? {
        return of_dlpack(object, stream);
    }
    if let Some(interface) = object.getattr_opt(intern!(py, "__cuda_array_interface__"))? {
        return match stream {
            Ok(_) => of_cuda_interface(object, interface.cast::<PyDict>()?),
            Err(refused) => Err(errors::input(py, refused)),
        };
    }
    let is_array = object.hasattr(intern!(py, "__array_interface__"))?;
    let viewed = if is_array { Ok(object.clone()) } else { memoryview(object) };
    let viewed = viewed.map_err(|_| {
        let kind = object.get_type().name().map_or_else(|_| "an object".to_owned(), |name| name.to_string());
        errors::input(
            py,
            format!(
                "an image of type {kind}: expected an array, by __dlpack__, __cuda_array_interface__, __array_interface__ or \
                 the buffer protocol"
            ),
        )
    })?;
    let array = as_array(&viewed)?;
    let interface = array.getattr(intern!(py, "__array_struct__"))?;
    of_struct(&array, &interface)
}

/// An array of NumPy over what has its memory; nothing is copied.
pub fn as_array<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static ASARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ASARRAY.import(object.py(), "numpy", "asarray")?.call1((object,))
}

fn memoryview<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a new reference or an error.
    unsafe { Bound::from_owned_ptr_or_err(object.py(), ffi::PyMemoryView_FromObject(object.as_ptr())) }
}

/// NumPy's C-side array interface (PyArrayInterface), the cheapest to ask for.
#[repr(C)]
struct ArrayInterface {
    /// 2 where it is this.
    two: c_int,
    ndim: c_int,
    kind: c_char,
    item: c_int,
    flags: c_int,
    shape: *mut isize,
    strides: *mut isize,
    data: *mut c_void,
    descr: *mut c_void,
}

const C_CONTIGUOUS: c_int = 0x1;
const NATIVE: c_int = 0x200;
const WRITEABLE: c_int = 0x400;

fn interface<'a>(capsule: &'a Bound<'_, PyAny>) -> PyResult<&'a ArrayInterface> {
    let wrong = || errors::input(capsule.py(), "an __array_struct__ that is no array interface");
    let pointer = capsule.cast::<PyCapsule>().map_err(|_| wrong())?.pointer_checked(None)?;
    // SAFETY: a nameless capsule in this attribute is the interface, which lives as long as the capsule.
    let interface = unsafe { pointer.cast::<ArrayInterface>().as_ref() };
    if interface.two == 2 && interface.ndim >= 0 { Ok(interface) } else { Err(wrong()) }
}

impl ArrayInterface {
    fn axes(&self) -> Vec<Axis> {
        let at = |axis: usize| {
            // SAFETY: the interface has so many of both.
            unsafe { Axis { length: (*self.shape.add(axis)).max(0) as usize, stride: *self.strides.add(axis) } }
        };
        (0..self.ndim as usize).map(at).collect()
    }

    fn element(&self, py: Python<'_>) -> PyResult<Element> {
        let swapped = self.flags & NATIVE == 0;
        let element = Element::of(self.kind as u8, self.item as usize).filter(|_| !swapped);
        element.ok_or_else(|| {
            let (kind, bits) = (self.kind as u8 as char, 8 * self.item);
            let order = if swapped { " in another order of bytes" } else { "" };
            errors::input(
                py,
                format!("an array of type '{kind}', {bits} bits{order}: expected uint8, float16 or float32"),
            )
        })
    }
}

fn of_struct(object: &Bound<'_, PyAny>, capsule: &Bound<'_, PyAny>) -> PyResult<(Array, Keep)> {
    let interface = interface(capsule)?;
    let array = Array {
        address: interface.data.expose_provenance() as u64,
        axes: interface.axes(),
        element: interface.element(object.py())?,
        place: Place::Host,
    };
    Ok((array, Keep::Object(object.clone().unbind())))
}

fn of_dlpack(object: &Bound<'_, PyAny>, stream: Result<u64, &str>) -> PyResult<(Array, Keep)> {
    let py = object.py();
    let (kind, _): (i32, i32) = object.call_method0(intern!(py, "__dlpack_device__"))?.extract()?;
    let stream = match (dlpack::is_cuda(kind), stream) {
        (true, stream) => Some(stream.map_err(|refused| errors::input(py, refused))?),
        (false, _) => None,
    };
    let keywords = PyDict::new(py);
    if let Some(stream) = stream {
        keywords.set_item(intern!(py, "stream"), stream)?;
    }
    let old = keywords.copy()?;
    keywords.set_item(intern!(py, "max_version"), (1, 0))?;
    let producer = object.getattr(intern!(py, "__dlpack__"))?;
    let capsule = match producer.call((), Some(&keywords)) {
        // A producer of before version 1 knows no such keyword.
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyTypeError>(py) => producer.call((), Some(&old))?,
        made => made?,
    };
    let taken = Taken::take(&capsule)?;
    let array = taken.array(stream).map_err(|reason| errors::input(py, reason))?;
    Ok((array, Keep::Tensor(taken)))
}

fn of_cuda_interface(object: &Bound<'_, PyAny>, interface: &Bound<'_, PyDict>) -> PyResult<(Array, Keep)> {
    let py = object.py();
    let wrong = |what: String| errors::input(py, format!("a __cuda_array_interface__ {what}"));
    let item = |name: &str| interface.get_item(name)?.ok_or_else(|| wrong(format!("without {name:?}")));
    let optional = |name: &str| Ok::<_, PyErr>(interface.get_item(name)?.filter(|value| !value.is_none()));
    if optional("mask")?.is_some() {
        return Err(wrong("with a mask: expected none".to_owned()));
    }
    let shape: Vec<usize> = item("shape")?.extract()?;
    let (address, _): (u64, bool) = item("data")?.extract()?;
    let code: String = item("typestr")?.extract()?;
    let native = code.starts_with(if cfg!(target_endian = "little") { ['<', '|'] } else { ['>', '|'] });
    let element = match (code.as_bytes(), native) {
        ([_, kind, digit @ b'0'..=b'9'], true) => Element::of(*kind, usize::from(digit - b'0')),
        _ => None,
    };
    let element = element.ok_or_else(|| wrong(format!("of type {code:?}: expected uint8, float16 or float32")))?;
    let strides: Vec<isize> = match optional("strides")? {
        Some(strides) => strides.extract()?,
        None => {
            packed(&shape, element.bytes()).ok_or_else(|| wrong(format!("of shape {shape:?}: no memory has that")))?
        }
    };
    if strides.len() != shape.len() {
        return Err(wrong(format!("with {} strides of {} axes", strides.len(), shape.len())));
    }
    let stream = match optional("stream")? {
        None => None,
        Some(stream) => Some(stream.extract::<u64>()?),
    };
    if stream == Some(0) {
        return Err(wrong(
            "with stream 0: expected 1 (the legacy default stream), 2 (the thread's) or a handle".to_owned(),
        ));
    }
    let axes = shape.iter().zip(&strides).map(|(length, stride)| Axis { length: *length, stride: *stride }).collect();
    let array = Array { address, axes, element, place: Place::Cuda { stream } };
    Ok((array, Keep::Object(object.clone().unbind())))
}

/// Strides of contiguous memory.
fn packed(shape: &[usize], item: usize) -> Option<Vec<isize>> {
    let mut strides = vec![0; shape.len()];
    let mut next = isize::try_from(item).ok()?;
    for (stride, length) in strides.iter_mut().zip(shape).rev() {
        *stride = next;
        next = next.checked_mul(isize::try_from(*length).ok()?.max(1))?;
    }
    Some(strides)
}

/// An array of NumPy that results are written into.
#[derive(Clone, Debug)]
pub struct Room {
    address: usize,
    element: Element,
    shape: Vec<usize>,
}

impl Room {
    /// The memory of an array.
    ///
    /// # Errors
    /// `lseg_fast.errors.InputError` for what is no array of NumPy, and one that is not contiguous or must not be written.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Room> {
        let py = object.py();
        let Some(capsule) = object.getattr_opt(intern!(py, "__array_struct__"))? else {
            return Err(errors::input(py, "out is no array of NumPy: expected one as numpy.empty makes it"));
        };
        let interface = interface(&capsule)?;
        if interface.flags & WRITEABLE == 0 {
            return Err(errors::input(py, "out is read-only: give an array that may be written"));
        }
        if interface.flags & C_CONTIGUOUS == 0 {
            return Err(errors::input(py, "out is not contiguous: give an array as numpy.empty makes it"));
        }
        let shape = interface.axes().iter().map(|axis| axis.length).collect();
        Ok(Room { address: interface.data.expose_provenance(), element: interface.element(py)?, shape })
    }

    pub fn has_shape(&self, shape: &[usize]) -> bool {
        self.shape == shape
    }

    /// Whether it is of this element and shape.
    ///
    /// # Errors
    /// What it is, and what was expected.
    pub fn check(&self, element: Element, shape: &[usize]) -> Result<(), String> {
        if self.element == element && self.has_shape(shape) {
            return Ok(());
        }
        let (found, expected) = (self.element.name(), element.name());
        Err(format!("out is {found} {:?}: expected {expected} {shape:?}", self.shape))
    }

    /// Writes these bytes from `at` on.
    ///
    /// # Safety
    /// The array that it is of lives.
    pub unsafe fn write(&self, at: usize, from: &[u8]) {
        let bytes = self.shape.iter().product::<usize>() * self.element.bytes();
        assert!(at + from.len() <= bytes, "more than there is room for");
        let to = std::ptr::with_exposed_provenance_mut::<u8>(self.address).wrapping_add(at);
        // SAFETY: the array lives, has so many bytes, is not Rust's, and may be written. That nobody else uses it meanwhile is its
        // owner's to see to, as with NumPy's own functions that let go of the interpreter.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }
}
