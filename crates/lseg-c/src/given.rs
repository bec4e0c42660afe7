//! What C gives: pointers to structs of this or another version, to text, to handles. NULL and nonsense become words.

#![allow(unsafe_code)] // Reads what the pointers of a call point to.

use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, align_of, size_of};
use std::{ptr, slice};

use crate::status::{Failure, invalid};

/// A struct of the header: plain numbers and pointers, the first of them its size in bytes.
///
/// # Safety
/// It is `repr(C)`, each field is valid as zeros, which are its default, and no field crosses a multiple of a pointer's size.
pub unsafe trait Struct: Copy {
    /// As the header calls it.
    const NAME: &'static str;
}

/// More than any version of a struct has.
const MOST_BYTES: usize = 4096;

/// The size that a struct says it has.
///
/// # Safety
/// `given` is NULL or points to a `size_t`.
pub unsafe fn size_of_given<T: Struct>(given: *const T, argument: &str) -> Result<usize, Failure> {
    if given.is_null() {
        return Err(invalid(format!("{argument} is NULL: expected a {}", T::NAME)));
    }
    // SAFETY: it points to one.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    if size < size_of::<usize>() || size > MOST_BYTES || !size.is_multiple_of(align_of::<usize>()) {
        return Err(invalid(format!("{argument}.size is {size}: set it to sizeof({})", T::NAME)));
    }
    Ok(size)
}

/// A struct whose later fields, where it is of an older version, are their defaults.
///
/// # Safety
/// `given` is NULL or points to as many bytes as its first field says.
pub unsafe fn versioned<T: Struct>(given: *const T, argument: &str) -> Result<T, Failure> {
    // SAFETY: a struct's first field is its size.
    let size = unsafe { size_of_given(given, argument)? };
    let known = size.min(size_of::<T>());
    let mut own = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are in both.
    unsafe { given.cast::<u8>().copy_to_nonoverlapping(own.as_mut_ptr().cast(), known) };
    // SAFETY: the caller's struct goes on for so many bytes, of fields that have been written.
    let unknown = unsafe { slice::from_raw_parts(given.cast::<u8>().add(known), size - known) };
    if unknown.iter().any(|byte| *byte != 0) {
        let (name, own) = (T::NAME, size_of::<T>());
        return Err(invalid(format!(
            "{argument}: a {name} of {size} bytes with values beyond the {own} that this library knows: leave them zero, or \
             run with a newer library"
        )));
    }
    // SAFETY: all fields are the caller's or zero.
    Ok(unsafe { own.assume_init() })
}

/// Gives the caller's struct the values of ours, as far as it goes.
///
/// # Safety
/// `place` points to as many bytes as its first field says; `own` has the same size in its first field.
pub unsafe fn write_back<T: Struct>(place: *mut T, own: &T) {
    // SAFETY: a struct's first field is its size.
    let size = unsafe { place.cast::<usize>().read_unaligned() };
    // SAFETY: so many bytes are in both.
    unsafe { ptr::from_ref(own).cast::<u8>().copy_to_nonoverlapping(place.cast(), size.min(size_of::<T>())) };
}

/// UTF-8 text.
///
/// # Safety
/// `text` is NULL or ends with a zero byte; it stays as it is for `'a`.
pub unsafe fn text<'a>(text: *const c_char, argument: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(invalid(format!("{argument} is NULL: expected UTF-8 text")));
    }
    // SAFETY: it ends with a zero byte.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|e| invalid(format!("{argument} is not UTF-8 from byte {} on", e.valid_up_to())))
}

/// A list of texts.
///
/// # Safety
/// `texts` is NULL or points to so many texts.
pub unsafe fn texts<'a>(list: *const *const c_char, count: usize, argument: &str) -> Result<Vec<&'a str>, Failure> {
    // SAFETY: as this function's.
    let list = unsafe { array(list, count, argument)? };
    let one = |(i, one): (usize, &*const c_char)| {
        // SAFETY: each is a text.
        unsafe { text(*one, &format!("{argument}[{i}]")) }
    };
    list.iter().enumerate().map(one).collect()
}

/// So many values; none may be at NULL.
///
/// # Safety
/// `values` is NULL or points to so many, which stay as they are for `'a`.
pub unsafe fn array<'a, T>(values: *const T, count: usize, argument: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    room(values, count, argument)?;
    // SAFETY: they are there, aligned, and fewer than memory has.
    Ok(unsafe { slice::from_raw_parts(values, count) })
}

/// Room for so many values.
///
/// # Safety
/// `values` is NULL or points to room for so many, which nobody else uses for `'a`.
pub unsafe fn array_mut<'a, T>(values: *mut T, count: usize, argument: &str) -> Result<&'a mut [T], Failure> {
    if count == 0 {
        return Ok(&mut []);
    }
    room(values, count, argument)?;
    // SAFETY: they are there, aligned, and fewer than memory has.
    Ok(unsafe { slice::from_raw_parts_mut(values, count) })
}

/// Whether so many values can be there.
fn room<T>(values: *const T, count: usize, argument: &str) -> Result<(), Failure> {
    if values.is_null() {
        return Err(invalid(format!("{argument} is NULL: expected {count} values")));
    }
    if !values.is_aligned() {
        return Err(invalid(format!("{argument} is no multiple of {} bytes", align_of::<T>())));
    }
    match count.checked_mul(size_of::<T>()) {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => Err(invalid(format!("{argument}: {count} values are more than memory has"))),
    }
}

/// A place for a result.
///
/// # Safety
/// `place` is NULL or points to room for a value, which nobody else uses for `'a`.
pub unsafe fn place<'a, T>(place: *mut T, argument: &str) -> Result<&'a mut MaybeUninit<T>, Failure> {
    room(place, 1, argument)?;
    // SAFETY: it is room for one.
    Ok(unsafe { &mut *place.cast::<MaybeUninit<T>>() })
}
