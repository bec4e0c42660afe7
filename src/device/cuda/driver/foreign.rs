//! Streams and memory of somebody else in our context.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;

use super::calls::increment;
use super::context::ContextKind;
use super::event::Event;
use super::memory::Memory;
use super::out_param;
use super::stream::Stream;
use crate::device::cuda::sys::{self, CUDA_MEMCPY2D, CUmemorytype, CUpointer_attribute as Attribute};
use crate::error::{Error, Result};
use crate::pixels::PlaneSize;

/// A stream that is not ours, by its handle: 0 or 1 the legacy default stream, 2 that of the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignStream(u64);

/// CU_STREAM_LEGACY and CU_STREAM_PER_THREAD.
const LEGACY: u64 = 1;
const PER_THREAD: u64 = 2;

impl ForeignStream {
    pub fn new(handle: u64) -> ForeignStream {
        ForeignStream(handle)
    }

    fn raw(self) -> sys::CUstream {
        ptr::with_exposed_provenance_mut(self.0 as usize)
    }

    /// The one in which this one's work is known to have ended from any thread: the legacy default stream waits for the
    /// default streams of all threads.
    pub fn for_any_thread(self) -> ForeignStream {
        if self.0 == PER_THREAD { ForeignStream(LEGACY) } else { self }
    }
}

/// Rows in memory that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignRows {
    pub address: u64,
    /// From a row to the next, in bytes.
    pub pitch: usize,
    pub size: PlaneSize,
}

impl ForeignRows {
    /// Whether these rows are the next behind its own.
    pub fn goes_on_in(&self, next: &ForeignRows) -> bool {
        let ForeignRows { address, pitch, size } = *self;
        let end = size.rows.checked_mul(pitch).and_then(|bytes| address.checked_add(bytes as u64));
        (pitch, size.row, end) == (next.pitch, next.size.row, Some(next.address))
    }

    /// From the first byte to behind the last; `None` where no memory is as large.
    fn span(&self) -> Option<usize> {
        let PlaneSize { row, rows } = self.size;
        let whole = self.pitch.checked_mul(rows.checked_sub(1)?)?.checked_add(row)?;
        self.address.checked_add(whole as u64).map(|_| whole)
    }
}

/// What CUDA tells of an address; zeros of one that it does not know.
#[derive(Default)]
struct Found {
    context: usize,
    kind: u32,
    is_managed: u32,
    ordinal: i32,
    start: u64,
    bytes: usize,
}

impl Found {
    /// Bytes from an address in it on.
    fn behind(&self, address: u64) -> usize {
        (self.start as usize).saturating_add(self.bytes).saturating_sub(address as usize)
    }
}

impl Stream {
    /// Whether what is queued on this stream can be ordered behind the foreign one's: that it is not being captured.
    ///
    /// # Errors
    /// It is; a handle that is none.
    pub fn check_foreign(&self, foreign: ForeignStream) -> Result<()> {
        match self.is_capturing(foreign)? {
            false => Ok(()),
            true => {
                let what = "the CUDA stream is being captured into a graph, of which a frame cannot be part: give the frame \
                            before the capture or behind it, or name another stream";
                Err(Error::Device(what.to_owned()))
            }
        }
    }

    pub fn is_capturing(&self, foreign: ForeignStream) -> Result<bool> {
        // SAFETY: the caller of the crate vouches for the handle; a valid place.
        let status = out_param(0u32, |status| unsafe { sys::cuStreamIsCapturing(foreign.raw(), status) });
        Ok(self.check(status, || "asking whether a CUDA stream is captured".to_owned())? != 0)
    }

    /// Whether these rows are in memory of this GPU and context.
    ///
    /// # Errors
    /// [`Error::Device`]: what was found there.
    pub fn check_memory(&self, rows: &ForeignRows) -> Result<()> {
        let found = self.look_at(rows.address)?;
        let refused =
            |what: String| Err(Error::Device(format!("the image at {:#x} is not taken: {what}", rows.address)));
        if let Some(what) = self.not_ours(&found) {
            return refused(what);
        }
        let Some(need) = rows.span() else { return refused("its rows go beyond all memory".to_owned()) };
        let there = found.behind(rows.address);
        let there = if found.context == 0 { self.with_mapped(rows.address, there, need)? } else { there };
        if need <= there { Ok(()) } else { refused(format!("{there} bytes are there, {need} needed")) }
    }

    /// Of memory that was mapped piece by piece each piece is known alone: how many bytes lie from an address on, `there` in the first,
    /// until there are as many as are needed.
    fn with_mapped(&self, address: u64, there: usize, need: usize) -> Result<usize> {
        all_pieces(there, need, |behind| {
            let next = address + behind as u64;
            let found = self.look_at(next)?;
            let is_mapped = found.context == 0 && self.not_ours(&found).is_none();
            Ok(if is_mapped { found.behind(next) } else { 0 })
        })
    }

    /// Why memory is none of this GPU and context.
    fn not_ours(&self, found: &Found) -> Option<String> {
        let Found { context, kind, is_managed, ordinal, .. } = *found;
        if is_managed == 0 && kind != CUmemorytype::CU_MEMORYTYPE_DEVICE as u32 {
            return Some("that is host memory; give it as bytes, or copy it to the GPU".to_owned());
        }
        if is_managed == 0 && ordinal != self.info().ordinal as i32 {
            let ours = self.info().ordinal;
            return Some(format!("that is memory of cuda:{ordinal}, and this engine is on cuda:{ours}"));
        }
        // Memory of a pool, or that was mapped, has none.
        let is_of_none = context == 0 && self.context.options().kind == ContextKind::Primary;
        if context == self.context.address() || is_of_none {
            return None;
        }
        let what = match self.context.options().kind {
            ContextKind::Own => {
                "this engine is in a context of its own: open it with ContextKind::Primary, where the memory of CUDA's \
                 runtime library is"
            }
            ContextKind::Primary => "that is memory of another context than the GPU's primary one",
        };
        Some(what.to_owned())
    }

    /// Whether two addresses are in one allocation, which no copy may leave.
    pub fn is_one_memory(&self, one: u64, other: u64) -> Result<bool> {
        Ok(self.look_at(one)?.start == self.look_at(other)?.start)
    }

    fn look_at(&self, address: u64) -> Result<Found> {
        let mut found = Found::default();
        let mut attributes = [
            Attribute::CU_POINTER_ATTRIBUTE_CONTEXT,
            Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
            Attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED,
            Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
            Attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
            Attribute::CU_POINTER_ATTRIBUTE_RANGE_SIZE,
        ];
        let mut places: [*mut c_void; 6] = [
            (&raw mut found.context).cast(),
            (&raw mut found.kind).cast(),
            (&raw mut found.is_managed).cast(),
            (&raw mut found.ordinal).cast(),
            (&raw mut found.start).cast(),
            (&raw mut found.bytes).cast(),
        ];
        let (count, list, data) = (attributes.len() as u32, attributes.as_mut_ptr(), places.as_mut_ptr());
        // SAFETY: as many places as attributes, each as large as its attribute is; the address is only looked up.
        let asked = unsafe { sys::cuPointerGetAttributes(count, list, data, address) };
        self.check(asked, || format!("asking what is at {address:#x}")).map(|()| found)
    }

    /// Device → device, queued: foreign rows to `to`, `at` on, without what pads them. They were checked.
    pub fn take(&self, from: &ForeignRows, to: &Memory, at: usize) -> Result<()> {
        let PlaneSize { row, rows } = from.size;
        let bytes = row * rows;
        to.check(at, bytes);
        increment(&self.counters.copies_within);
        self.queue.ticket();
        let to = to.address() + at as u64;
        let copied = if from.pitch == row || rows == 1 {
            // SAFETY: in bounds of our allocation, and of the foreign one by what CUDA told of it; the caller of the crate vouches
            // for its life.
            unsafe { sys::cuMemcpyDtoDAsync_v2(to, from.address, bytes, self.queue.raw()) }
        } else {
            let copy = rows_to_device(to, row, rows, CUmemorytype::CU_MEMORYTYPE_DEVICE, ptr::null(), from.address);
            let copy = CUDA_MEMCPY2D { srcPitch: from.pitch, ..copy };
            // SAFETY: as above.
            unsafe { sys::cuMemcpy2DAsync_v2(&copy, self.queue.raw()) }
        };
        self.check(copied, || format!("copying an image of {bytes} bytes on the GPU"))
    }

    /// Host → device, behind everything queued; waits. `rows` rows of `row` bytes, `pitch` from one to the next, which lie in
    /// `bytes`.
    pub fn upload_rows(&self, to: &Memory, at: usize, bytes: &[u8], pitch: usize, size: PlaneSize) -> Result<()> {
        let PlaneSize { row, rows } = size;
        to.check(at, row * rows);
        assert!(rows > 0 && pitch >= row && (rows - 1) * pitch + row <= bytes.len(), "rows lie in their bytes");
        self.settle()?;
        increment(&self.counters.copies_in);
        let (to, from) = (to.address() + at as u64, bytes.as_ptr().cast());
        let copy = rows_to_device(to, row, rows, CUmemorytype::CU_MEMORYTYPE_HOST, from, 0);
        let copy = CUDA_MEMCPY2D { srcPitch: pitch, ..copy };
        // SAFETY: in bounds; the copy has ended before the borrow does.
        let copied = unsafe { sys::cuMemcpy2DAsync_v2(&copy, self.queue.raw()) };
        self.check(copied, || format!("copying {rows} rows of {row} bytes to the GPU"))?;
        self.synchronize_without_limit()
    }
}

/// Bytes of pieces side by side, the first of `there`, until there are as many as are needed; `next` tells how many more lie behind so
/// many.
fn all_pieces(mut there: usize, need: usize, mut next: impl FnMut(usize) -> Result<usize>) -> Result<usize> {
    while there < need {
        match next(there)? {
            0 => break,
            more => there = there.saturating_add(more),
        }
    }
    Ok(there)
}

/// A copy of rows to where they follow each other without padding; its pitch is still to be said.
fn rows_to_device(
    to: u64,
    row: usize,
    rows: usize,
    kind: CUmemorytype,
    host: *const c_void,
    device: u64,
) -> CUDA_MEMCPY2D {
    CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: kind,
        srcHost: host,
        srcDevice: device,
        srcArray: ptr::null_mut(),
        srcPitch: 0,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: ptr::null_mut(),
        dstDevice: to,
        dstArray: ptr::null_mut(),
        dstPitch: row,
        WidthInBytes: row,
        Height: rows,
    }
}

impl Event {
    /// As [`Event::record`], behind what is queued on a foreign stream.
    pub fn record_on(&self, foreign: ForeignStream) -> Result<()> {
        increment(&self.stream.counters.records);
        // It says nothing of what our stream has ended.
        self.ticket.store(0, Ordering::Release);
        // SAFETY: our event; the caller of the crate vouches for the stream, which is of our context.
        let recorded = unsafe { sys::cuEventRecord(self.event, foreign.raw()) };
        self.stream.check(recorded, || "recording a CUDA event on the caller's stream".to_owned())
    }

    /// What is queued on a foreign stream from now on waits for this event's last record.
    pub fn hold(&self, foreign: ForeignStream) -> Result<()> {
        increment(&self.stream.counters.waits);
        // SAFETY: as for `record_on`.
        let queued = unsafe { sys::cuStreamWaitEvent(foreign.raw(), self.event, 0) };
        self.stream.check(queued, || "making the caller's stream wait for a CUDA event".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::all_pieces;

    #[test]
    fn pieces_are_counted_until_they_suffice_or_end() {
        let of_twenty = |end: usize| move |behind: usize| Ok(if behind < end { 20 } else { 0 });
        for (there, need, end, found) in
            [(20, 20, 100, 20), (20, 21, 100, 40), (15, 50, 100, 55), (20, 90, 60, 60), (20, 90, 0, 20), (0, 5, 0, 0)]
        {
            assert_eq!(all_pieces(there, need, of_twenty(end)).unwrap(), found, "{there} of {need}, {end} in all");
        }
        assert_eq!(all_pieces(1, 2, |_| Ok(usize::MAX)).unwrap(), usize::MAX);
    }
}
