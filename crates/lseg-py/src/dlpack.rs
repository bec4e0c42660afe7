//! DLPack, the protocol by which array libraries lend each other memory: its structures, as <https://dmlc.github.io/dlpack/latest>
//! has them, and Python's capsules of them, old and versioned. By hand: the crates for it bring a container framework with their
//! structures, and what is long here, strides and streams, is not theirs.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods};

use crate::array::{Array, Axis, Element, Place};

/// kDLCPU, kDLCUDA, kDLCUDAHost (page-locked memory of the host), kDLCUDAManaged.
pub const CPU: i32 = 1;
pub const CUDA: i32 = 2;
const CUDA_HOST: i32 = 3;
const CUDA_MANAGED: i32 = 13;

/// Whether a device of this kind is a GPU of CUDA.
pub fn is_cuda(kind: i32) -> bool {
    matches!(kind, CUDA | CUDA_MANAGED)
}

/// Of a versioned tensor.
const VERSION: Version = Version { major: 1, minor: 0 };
const IS_COPIED: u64 = 2;
const OLD: &CStr = c"dltensor";
const OLD_USED: &CStr = c"used_dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";
const VERSIONED_USED: &CStr = c"used_dltensor_versioned";

#[repr(C)]
pub struct DlDevice {
    kind: i32,
    id: i32,
}

#[repr(C)]
pub struct DlType {
    /// 0 signed, 1 unsigned, 2 floating-point.
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
pub struct DlTensor {
    data: *mut c_void,
    device: DlDevice,
    ndim: i32,
    dtype: DlType,
    shape: *mut i64,
    /// In elements; null of a contiguous tensor.
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
pub struct Version {
    major: u32,
    minor: u32,
}

/// The old protocol's.
#[repr(C)]
pub struct Managed {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

/// From version 1 on.
#[repr(C)]
pub struct Versioned {
    version: Version,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    flags: u64,
    tensor: DlTensor,
}

/// A managed tensor of either protocol.
pub trait Kind: Sized {
    const NAME: &'static CStr;
    const USED: &'static CStr;
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)>;
}

impl Kind for Managed {
    const NAME: &'static CStr = OLD;
    const USED: &'static CStr = OLD_USED;
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

impl Kind for Versioned {
    const NAME: &'static CStr = VERSIONED;
    const USED: &'static CStr = VERSIONED_USED;
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

/// A tensor that goes out: contiguous memory, which `owner` keeps.
pub struct Outgoing<T> {
    pub owner: T,
    pub address: usize,
    /// (kind, number)
    pub device: (i32, i32),
    pub element: Element,
    pub shape: Vec<usize>,
    pub is_copied: bool,
}

/// What a tensor that went out is until its deleter is called. The managed tensor comes first: its address is this one's.
#[repr(C)]
struct Exported<M, T> {
    managed: M,
    shape: Vec<i64>,
    strides: Vec<i64>,
    _owner: T,
}

/// A capsule of a tensor, which is freed with the capsule where nobody took it, and by who took it otherwise, on any thread.
pub fn export<T: Send + 'static>(py: Python<'_>, out: Outgoing<T>, versioned: bool) -> PyResult<Bound<'_, PyCapsule>> {
    let flags = if out.is_copied { IS_COPIED } else { 0 };
    if versioned {
        let managed = |tensor| Versioned {
            version: VERSION,
            context: ptr::null_mut(),
            deleter: Some(free::<Versioned, T>),
            flags,
            tensor,
        };
        capsule(py, out, managed, |managed| &mut managed.tensor)
    } else {
        let managed = |tensor| Managed { tensor, context: ptr::null_mut(), deleter: Some(free::<Managed, T>) };
        capsule(py, out, managed, |managed| &mut managed.tensor)
    }
}

fn capsule<M: Kind, T: Send + 'static>(
    py: Python<'_>,
    out: Outgoing<T>,
    managed: impl FnOnce(DlTensor) -> M,
    tensor: impl FnOnce(&mut M) -> &mut DlTensor,
) -> PyResult<Bound<'_, PyCapsule>> {
    let shape: Vec<i64> = out.shape.iter().map(|length| *length as i64).collect();
    let mut strides = vec![1; shape.len()];
    (1..shape.len()).rev().for_each(|axis| strides[axis - 1] = strides[axis] * shape[axis].max(1));
    let (code, bits) = match out.element {
        Element::U8 => (1, 8),
        Element::U16 => (1, 16),
        Element::F16 => (2, 16),
        Element::F32 => (2, 32),
    };
    let (kind, id) = out.device;
    let blank = DlTensor {
        data: ptr::with_exposed_provenance_mut(out.address),
        device: DlDevice { kind, id },
        ndim: shape.len() as i32,
        dtype: DlType { code, bits, lanes: 1 },
        shape: ptr::null_mut(),
        strides: ptr::null_mut(),
        byte_offset: 0,
    };
    let mut exported = Box::new(Exported { managed: managed(blank), shape, strides, _owner: out.owner });
    let (shape, strides) = (exported.shape.as_mut_ptr(), exported.strides.as_mut_ptr());
    let tensor = tensor(&mut exported.managed);
    (tensor.shape, tensor.strides) = (shape, strides);
    let pointer = NonNull::from(Box::leak(exported)).cast::<c_void>();
    // SAFETY: the pointer is a whole managed tensor of the protocol that the name tells, valid until its deleter is called once: by
    // who renames the capsule, or by the destructor where nobody did.
    let made = unsafe { PyCapsule::new_with_pointer_and_destructor(py, pointer, M::NAME, Some(drop_unused::<M>)) };
    if made.is_err() {
        // SAFETY: nobody else has it.
        drop(unsafe { Box::from_raw(pointer.cast::<Exported<M, T>>().as_ptr()) });
    }
    made
}

/// The deleter of what [`export`] made.
unsafe extern "C" fn free<M, T>(managed: *mut M) {
    // SAFETY: whoever calls a deleter does so once, with the managed tensor that has it, which is an `Exported`'s first field.
    let exported = unsafe { Box::from_raw(managed.cast::<Exported<M, T>>()) };
    // A panic must not reach the caller, who is not Rust; to forget it is all that is left to do.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(exported)));
}

/// A capsule's destructor: whoever took the tensor has renamed the capsule.
unsafe extern "C" fn drop_unused<M: Kind>(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls it with the capsule, attached; a capsule of this name holds a managed tensor of this kind.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, M::NAME.as_ptr()) == 0 {
            return;
        }
        let managed = ffi::PyCapsule_GetPointer(capsule, M::NAME.as_ptr()).cast::<M>();
        if let Some(deleter) = (*managed).deleter() {
            deleter(managed);
        }
    }
}

/// A tensor of somebody else's, which is given back when this is dropped: with Python attached.
pub enum Taken {
    Old(Owned<Managed>),
    Versioned(Owned<Versioned>),
}

/// A managed tensor, until it is dropped.
pub struct Owned<M: Kind>(NonNull<M>);

// SAFETY: the protocol lets a deleter be called, and the tensor be read, by any thread.
unsafe impl<M: Kind> Send for Owned<M> {}
// SAFETY: as above; nobody writes to it.
unsafe impl<M: Kind> Sync for Owned<M> {}

impl<M: Kind> Drop for Owned<M> {
    fn drop(&mut self) {
        // SAFETY: it was taken from its capsule, so that to call its deleter is left to us, once.
        unsafe {
            if let Some(deleter) = self.0.as_ref().deleter() {
                deleter(self.0.as_ptr());
            }
        }
    }
}

impl<M: Kind> Owned<M> {
    /// # Errors
    /// The capsule is none of this kind, or was taken before.
    fn take(capsule: &Bound<'_, PyCapsule>) -> PyResult<Owned<M>> {
        let pointer = capsule.pointer_checked(Some(M::NAME))?;
        // SAFETY: it is a capsule; the name is static.
        if unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), M::USED.as_ptr()) } != 0 {
            return Err(PyErr::fetch(capsule.py()));
        }
        Ok(Owned(pointer.cast()))
    }
}

impl Taken {
    /// Takes the tensor from a capsule of either protocol.
    ///
    /// # Errors
    /// It is no such capsule, or its tensor was taken before, or is of a protocol that came later.
    pub fn take(object: &Bound<'_, PyAny>) -> PyResult<Taken> {
        let capsule = object.cast::<PyCapsule>()?;
        if !capsule.is_valid_checked(Some(VERSIONED)) {
            return Ok(Taken::Old(Owned::take(capsule)?));
        }
        let taken: Owned<Versioned> = Owned::take(capsule)?;
        // SAFETY: the version comes first in all versions, and the tensor is ours until it is dropped.
        let major = unsafe { taken.0.as_ref() }.version.major;
        if major != VERSION.major {
            return Err(PyBufferError::new_err(format!("a DLPack tensor of version {major}: expected version 1")));
        }
        Ok(Taken::Versioned(taken))
    }

    fn tensor(&self) -> &DlTensor {
        // SAFETY: the producer keeps it as it is until its deleter is called, which is when `self` is dropped.
        unsafe {
            match self {
                Taken::Old(owned) => &owned.0.as_ref().tensor,
                Taken::Versioned(owned) => &owned.0.as_ref().tensor,
            }
        }
    }

    /// The array that it is; in CUDA memory, what the producer has queued is ordered before this stream.
    ///
    /// # Errors
    /// Its device or element is none of ours, or its numbers are none.
    pub fn array(&self, stream: Option<u64>) -> Result<Array, String> {
        let tensor = self.tensor();
        let place = match tensor.device.kind {
            CPU | CUDA_HOST => Place::Host,
            CUDA | CUDA_MANAGED => Place::Cuda { stream },
            other => return Err(format!("a DLPack tensor of device type {other}: expected CPU (1) or CUDA (2)")),
        };
        let element = match (&tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) {
            (1, 8, 1) => Element::U8,
            (2, 16, 1) => Element::F16,
            (2, 32, 1) => Element::F32,
            (code, bits, lanes) => {
                return Err(format!(
                    "a DLPack tensor of type code {code}, {bits} bits, {lanes} lanes: expected uint8, float16 or float32"
                ));
            }
        };
        let ndim = usize::try_from(tensor.ndim).map_err(|_| format!("a DLPack tensor of {} axes", tensor.ndim))?;
        let slice = |numbers: *mut i64| {
            if numbers.is_null() || ndim == 0 {
                return &[][..];
            }
            // SAFETY: the producer says that so many numbers are there, and keeps them as the tensor.
            unsafe { std::slice::from_raw_parts(numbers, ndim) }
        };
        let (shape, strides) = (slice(tensor.shape), slice(tensor.strides));
        let bytes = element.bytes() as i64;
        let mut axes = Vec::with_capacity(shape.len());
        let mut contiguous = bytes;
        for (at, length) in shape.iter().enumerate().rev() {
            let stride = match strides.get(at) {
                Some(stride) => stride.checked_mul(bytes),
                None => Some(contiguous),
            };
            let wrong = || format!("a DLPack tensor of shape {shape:?} and strides {strides:?}: no memory has that");
            let axis = Axis {
                length: usize::try_from(*length).map_err(|_| wrong())?,
                stride: stride.and_then(|stride| isize::try_from(stride).ok()).ok_or_else(wrong)?,
            };
            contiguous = contiguous.checked_mul((*length).max(1)).ok_or_else(wrong)?;
            axes.push(axis);
        }
        axes.reverse();
        let address = (tensor.data.expose_provenance() as u64)
            .checked_add(tensor.byte_offset)
            .ok_or("a DLPack tensor beyond memory")?;
        Ok(Array { address, axes, element, place })
    }
}
