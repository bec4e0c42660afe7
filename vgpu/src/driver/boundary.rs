//! Where C's pointers become values: all `unsafe` of the driver.
//!
//! [`Out`], [`In`], [`Text`] and [`Host`] have private fields: C callers make them, as arguments of the functions that
//! this library exports, or (`Host::at_address`) as words of structures and lists that such arguments lead to. The
//! functions' contract (the CUDA driver's documentation) says that a pointer is null or valid for what is read or
//! written through it. That contract is what every block here rests on.

use std::ffi::{CStr, c_char};

use super::error::{Code, Outcome, fail};

/// Where an answer goes.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    pub fn write(&self, value: T) -> Outcome {
        if self.0.is_null() {
            return fail(Code::INVALID_VALUE, "null pointer where the answer should go");
        }
        // SAFETY: not null, so by the caller's contract valid for a write of one T.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// An answer that the caller may not want.
    pub fn write_if_wanted(&self, value: T) {
        if !self.0.is_null() {
            // SAFETY: not null, so by the caller's contract valid for a write of one T.
            unsafe { self.0.write_unaligned(value) };
        }
    }

    /// Argument and answer in one.
    pub fn read(&self) -> Outcome<T> {
        In(self.0.cast_const()).read()
    }

    /// The first `values.len()` places.
    pub fn write_all(&self, values: &[T]) -> Outcome {
        if self.0.is_null() {
            return fail(Code::INVALID_VALUE, "null pointer where the answer should go");
        }
        for (i, &value) in values.iter().enumerate() {
            // SAFETY: not null, and the caller told that it has as many places as are written.
            unsafe { self.0.add(i).write_unaligned(value) };
        }
        Ok(())
    }
}

impl Out<c_char> {
    /// Text with its NUL, cut to `size` bytes.
    pub fn write_text(&self, text: &str, size: usize) -> Outcome {
        let Some(room) = size.checked_sub(1) else {
            return Ok(());
        };
        let bytes = &text.as_bytes()[..text.len().min(room)];
        let with_nul: Vec<c_char> = bytes.iter().chain(&[0]).map(|&b| b as c_char).collect();
        self.write_all(&with_nul)
    }
}

/// One or more values that the caller shows.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T: Copy> In<T> {
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    pub fn read(&self) -> Outcome<T> {
        self.at(0)
    }

    /// The `i`th of an array.
    pub fn at(&self, i: usize) -> Outcome<T> {
        if self.0.is_null() {
            return fail(Code::INVALID_VALUE, "null pointer to an argument");
        }
        // SAFETY: not null, so by the caller's contract valid for reads of as many T as the caller says it has.
        Ok(unsafe { self.0.add(i).read_unaligned() })
    }
}

impl<T> In<T> {
    pub fn null() -> In<T> {
        In(std::ptr::null())
    }
}

impl<T> From<Host> for In<T> {
    /// For pointers inside structures.
    fn from(host: Host) -> In<T> {
        In(host.pointer().cast_const().cast())
    }
}

/// A string.
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    pub fn get(&self) -> Outcome<String> {
        if self.0.is_null() {
            return fail(Code::INVALID_VALUE, "null pointer to a text");
        }
        // SAFETY: not null, so by the caller's contract a string that ends in NUL.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}

/// Memory of the host: the other end of copies, images of modules, values of kernel parameters. The caller keeps it
/// alive until the work that uses it is done, as CUDA demands.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Host(usize);

impl Host {
    /// From an address that C gave as a number: unified addressing, words of a structure or of an argument list.
    pub fn at_address(address: usize) -> Host {
        Host(address)
    }

    pub fn address(self) -> usize {
        self.0
    }

    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    pub fn offset(self, bytes: usize) -> Host {
        Host(self.0.wrapping_add(bytes))
    }

    fn pointer(self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.0)
    }

    pub fn read(self, bytes: usize) -> Outcome<Vec<u8>> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        if self.is_null() {
            return fail(Code::INVALID_VALUE, format!("null pointer to {bytes} bytes of host memory"));
        }
        let mut copy = vec![0; bytes];
        // SAFETY: not null, so by the caller's contract valid for `bytes`; the copy is new memory.
        unsafe { std::ptr::copy_nonoverlapping(self.pointer(), copy.as_mut_ptr(), bytes) };
        Ok(copy)
    }

    pub fn write(self, bytes: &[u8]) -> Outcome {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.is_null() {
            return fail(Code::INVALID_VALUE, format!("null pointer to {} bytes of host memory", bytes.len()));
        }
        // SAFETY: not null, so by the caller's contract valid for that many bytes; `bytes` is this library's own memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.pointer(), bytes.len()) };
        Ok(())
    }

    /// What stands in a buffer until the copy into it is executed.
    pub fn poison(self, bytes: usize) {
        if !self.is_null() {
            // SAFETY: not null, so by the caller's contract valid for `bytes`.
            unsafe { std::ptr::write_bytes(self.pointer(), 0xcd, bytes) };
        }
    }

    /// The text that begins here and ends before its NUL.
    pub fn text(self) -> Outcome<Vec<u8>> {
        if self.is_null() {
            return fail(Code::INVALID_VALUE, "null pointer to a text");
        }
        // SAFETY: not null, so by the caller's contract a string that ends in NUL.
        Ok(unsafe { CStr::from_ptr(self.pointer().cast()) }.to_bytes().to_vec())
    }
}

/// Page-locked memory given to the program.
pub struct Pinned {
    pages: *mut [Page],
}

#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Page {
    _bytes: [u8; 4096],
}

// SAFETY: the pages are owned; the raw pointer exists only because the program reads and writes them meanwhile.
unsafe impl Send for Pinned {}

impl Pinned {
    /// `bytes`, filled with poison.
    pub fn new(bytes: usize) -> Pinned {
        let pages = vec![Page { _bytes: [0xcd; 4096] }; bytes.div_ceil(4096).max(1)];
        Pinned { pages: Box::into_raw(pages.into_boxed_slice()) }
    }

    pub fn host(&self) -> Host {
        Host(self.pages.cast::<u8>().expose_provenance())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: made by Box::into_raw in `new`, freed only here.
        drop(unsafe { Box::from_raw(self.pages) });
    }
}

/// A function of the program with its pointer, called when the stream gets there.
#[derive(Clone, Copy)]
pub struct Callback {
    function: CallbackFunction,
    data: usize,
}

#[derive(Clone, Copy)]
enum CallbackFunction {
    Host(HostFunction),
    Stream(StreamFunction, usize),
}

pub type HostFunction = unsafe extern "C" fn(usize);
pub type StreamFunction = unsafe extern "C" fn(usize, u32, usize);
/// Dynamic shared memory by block size, for the occupancy calculator.
pub type SharedOfBlock = unsafe extern "C" fn(i32) -> usize;

impl Callback {
    pub fn host(function: HostFunction, data: usize) -> Callback {
        Callback { function: CallbackFunction::Host(function), data }
    }

    /// Gets the stream's handle and success.
    pub fn stream(function: StreamFunction, stream: usize, data: usize) -> Callback {
        Callback { function: CallbackFunction::Stream(function, stream), data }
    }

    pub fn call(self) {
        match self.function {
            // SAFETY: the caller gave both for exactly this call.
            CallbackFunction::Host(function) => unsafe { function(self.data) },
            // SAFETY: the caller gave both for exactly this call.
            CallbackFunction::Stream(function, stream) => unsafe { function(stream, 0, self.data) },
        }
    }
}

/// Asks the program how much dynamic shared memory a block of `threads` gets.
pub fn shared_of_block(function: SharedOfBlock, threads: i32) -> usize {
    // SAFETY: the caller gave the function for exactly this call.
    unsafe { function(threads) }
}
