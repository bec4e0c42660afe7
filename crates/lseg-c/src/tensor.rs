//! Results that stay on the GPU.

#![allow(unsafe_code)] // What the pointers of a call point to.

use std::ffi::c_void;
use std::ptr;

use lseg_fast::{DeviceTensor, TensorElement};

use crate::codes::lseg_element;
use crate::engine::{lseg_engine, with};
use crate::given::{self, Struct};
use crate::image::{self, lseg_image};
use crate::output::{Outputs, lseg_output};
use crate::status::lseg_status::{self, LSEG_DEVICE};
use crate::status::{Failure, guarded, invalid};

/// A result in the GPU's memory, which no later frame overwrites while this is held. Any thread may use it, one at a time; it may
/// outlive its engine.
pub struct lseg_tensor(DeviceTensor);

impl lseg_tensor {
    /// A handle, to be released.
    pub(crate) fn of(tensor: &DeviceTensor) -> *mut lseg_tensor {
        Box::into_raw(Box::new(lseg_tensor(tensor.clone())))
    }
}

/// Where a tensor lies and what it is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lseg_tensor_info {
    /// sizeof(lseg_tensor_info)
    pub size: usize,
    /// CUDA device memory; the values follow each other without padding.
    pub address: *mut c_void,
    /// How many bytes are there.
    pub bytes: usize,
    /// 1, then as enum lseg_kind tells: a mask has 1, height, width, 1.
    pub shape: [usize; 4],
    /// enum lseg_element. A mask of at most 256 labels, with a threshold 255, is of bytes here whichever kind was asked for.
    pub element: i32,
    /// The GPU's number.
    pub gpu: i32,
}

// SAFETY: repr(C), zeros are NULL and 0, and fields of eight bytes lie at multiples of eight.
unsafe impl Struct for lseg_tensor_info {
    const NAME: &'static str = "lseg_tensor_info";
}

/// As lseg_segment, into tensors of the engine's own: one for each output, in their order, to be given back by lseg_tensor_release.
/// Of an output its data, bytes and pitch are not looked at. It returns before they are computed: see lseg_tensor_follow and
/// lseg_tensor_wait. The results of two frames may be held at a time, or of as many as lseg_set_device_places says; beyond that it is
/// LSEG_BUSY. LSEG_DEVICE on a CPU.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_segment_on_device(
    engine: *mut lseg_engine,
    image: *const lseg_image,
    outputs: *const lseg_output,
    count: usize,
    tensors: *mut *mut lseg_tensor,
) -> lseg_status {
    // SAFETY: the caller's handle, structs and memory.
    unsafe {
        with(engine, |open| {
            let image = image::image(image)?;
            let outputs = Outputs::of(outputs, count)?;
            let tensors = given::array_mut(tensors, count, "tensors")?;
            tensors.fill(ptr::null_mut());
            let wanted = outputs.wanted(open.threshold, &open.colours)?;
            let results = open.engine.run_on_device(&[image], wanted)?;
            for (place, asked) in tensors.iter_mut().zip(outputs.iter()) {
                let tensor = results.tensor(asked.output()).expect("what was wanted is there");
                *place = lseg_tensor::of(tensor);
            }
            Ok(())
        })
    }
}

/// How many frames' results may be held on the GPU at once, one at least; 2 before this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_set_device_places(engine: *mut lseg_engine, places: usize) -> lseg_status {
    // SAFETY: the caller's handle.
    unsafe {
        with(engine, |open| {
            if places == 0 {
                return Err(invalid("places is 0: expected one at least"));
            }
            open.engine.lane_mut().set_device_places(places);
            Ok(())
        })
    }
}

/// The CUDA stream (CUstream, cudaStream_t) that the engine computes on, there until lseg_close. An image whose cuda_stream it is needs
/// no event. LSEG_DEVICE on a CPU.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_cuda_stream(engine: *const lseg_engine, stream: *mut *mut c_void) -> lseg_status {
    // SAFETY: the caller's handle and place.
    unsafe {
        with(engine, |open| {
            let stream = given::place(stream, "stream")?;
            let none = || Failure {
                status: LSEG_DEVICE,
                message: format!("this engine is on {}, which has no CUDA stream", open.engine.device()),
            };
            stream.write(open.engine.lane().cuda_stream().ok_or_else(none)? as *mut c_void);
            Ok(())
        })
    }
}

/// Does a call with a tensor.
///
/// # Safety
/// `tensor` is NULL or a handle that has not been released.
unsafe fn with_tensor(
    tensor: *const lseg_tensor,
    call: impl FnOnce(&DeviceTensor) -> Result<(), Failure>,
) -> lseg_status {
    guarded(|| {
        // SAFETY: a handle is such a pointer until it is released.
        let tensor = unsafe { tensor.as_ref() };
        call(&tensor.ok_or_else(|| invalid("tensor is NULL: expected one of lseg_segment_on_device"))?.0)
    })
}

/// Where it lies and what it is; `info->size` is to be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_tensor_describe(tensor: *const lseg_tensor, info: *mut lseg_tensor_info) -> lseg_status {
    // SAFETY: the caller's handle and struct.
    unsafe {
        with_tensor(tensor, |tensor| {
            let size = given::versioned(info, "info")?.size;
            let element = match tensor.element() {
                TensorElement::U8 => lseg_element::LSEG_ELEMENT_U8,
                TensorElement::U16 => lseg_element::LSEG_ELEMENT_U16,
                TensorElement::F16 => lseg_element::LSEG_ELEMENT_F16,
                TensorElement::F32 => lseg_element::LSEG_ELEMENT_F32,
            };
            let filled = lseg_tensor_info {
                size,
                address: tensor.address() as *mut c_void,
                bytes: tensor.bytes(),
                shape: tensor.shape(),
                element: element as i32,
                gpu: tensor.ordinal() as i32,
            };
            given::write_back(info, &filled);
            Ok(())
        })
    }
}

/// What is queued on this CUDA stream from now on finds the result computed, and its memory is used again only behind what is queued
/// there when it is released. Nobody waits on the host. The stream is of the engine's context and must live until then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_tensor_follow(tensor: *const lseg_tensor, cuda_stream: *mut c_void) -> lseg_status {
    // SAFETY: the caller's handle and stream.
    unsafe { with_tensor(tensor, |tensor| Ok(tensor.follow(cuda_stream as u64)?)) }
}

/// Waits until it is computed: LSEG_NOT_FINITE where it is no numbers, and whatever else went wrong.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_tensor_wait(tensor: *const lseg_tensor) -> lseg_status {
    // SAFETY: the caller's handle.
    unsafe { with_tensor(tensor, |tensor| Ok(tensor.wait()?)) }
}

/// Waits, and copies it to the host: `bytes` is what lseg_tensor_describe tells.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_tensor_read(tensor: *const lseg_tensor, data: *mut c_void, bytes: usize) -> lseg_status {
    // SAFETY: the caller's handle and room.
    unsafe {
        with_tensor(tensor, |tensor| {
            if bytes != tensor.bytes() {
                return Err(invalid(format!("bytes is {bytes}: the tensor has {}", tensor.bytes())));
            }
            Ok(tensor.read(given::array_mut(data.cast(), bytes, "data")?)?)
        })
    }
}

/// Gives a tensor back, which waits for nothing; NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lseg_tensor_release(tensor: *mut lseg_tensor) {
    guarded(|| {
        if !tensor.is_null() {
            // SAFETY: lseg_segment_on_device made it so, and it is released once.
            drop(unsafe { Box::from_raw(tensor) });
        }
        Ok(())
    });
}
