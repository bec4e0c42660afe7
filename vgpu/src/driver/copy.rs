//! Copies and fills, synchronous (the legacy default stream, then wait) and queued.
//!
//! Of pageable host memory CUDA promises that it is done with it when the call returns; so uploads from it take the bytes
//! at once, and downloads to it wait. Page-locked memory is used when the stream gets there; until then a download's
//! destination holds poison.

use super::boundary::{Host, In};
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::stream::Stream;
use super::work::{Source, Work};
use super::{Machine, driver_functions};

/// CUDA_MEMCPY2D
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Copy2d {
    from: Side,
    to: Side,
    width: usize,
    height: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Side {
    x_bytes: usize,
    y: usize,
    /// CUmemorytype: 1 host, 2 device, 3 array, 4 unified.
    kind: u32,
    host: Host,
    device: u64,
    array: usize,
    pitch: usize,
}

/// One end of a copy.
#[derive(Clone, Copy)]
enum End {
    Host(Host),
    Device(u64),
}

impl End {
    fn offset(self, bytes: usize) -> End {
        match self {
            End::Host(host) => End::Host(host.offset(bytes)),
            End::Device(address) => End::Device(address.wrapping_add(bytes as u64)),
        }
    }
}

impl Machine {
    /// What an address of the unified address space is.
    fn end(&self, address: u64) -> End {
        match self.device_at(address) {
            Some(_) => End::Device(address),
            None => End::Host(Host::at_address(address as usize)),
        }
    }

    /// What a stream has to do for it; and whether CUDA promises that the host's side is done with when the call returns.
    fn copy_work(&self, stream: Handle<Stream>, to: End, from: End, bytes: usize) -> Outcome<(Work, bool)> {
        if bytes == 0 {
            return Ok((Work::Nothing, false));
        }
        let Stream { context, capture, .. } = self.streams.get(stream)?;
        let capturing = capture.is_some();
        for end in [to, from] {
            match end {
                End::Device(address) => self.check_range(*context, address, bytes)?,
                End::Host(host) if host.is_null() => {
                    return fail(Code::INVALID_VALUE, format!("null pointer to {bytes} bytes of host memory"));
                }
                End::Host(_) => {}
            }
        }
        let (work, wait) = match (to, from) {
            (End::Device(to), End::Device(from)) => (Work::Copy { to, from, bytes }, false),
            (End::Device(to), End::Host(host)) => {
                let later = capturing || self.is_pinned(host, bytes);
                let from = if later { Source::Host(host, bytes) } else { Source::Bytes(host.read(bytes)?.into()) };
                (Work::Upload { to, from }, false)
            }
            (End::Host(to), End::Device(from)) => {
                let wait = !self.is_pinned(to, bytes);
                if !wait && !capturing {
                    to.poison(bytes);
                }
                (Work::Download { to, from, bytes }, wait)
            }
            (End::Host(to), End::Host(from)) => (Work::HostCopy { to, from, bytes }, true),
        };
        Ok((work, wait && !capturing))
    }

    fn copy_async(&mut self, to: End, from: End, bytes: usize, given: Handle<Stream>) -> Outcome {
        let stream = self.stream(given)?;
        let (work, wait) = self.copy_work(stream, to, from, bytes)?;
        self.submit(stream, work)?;
        if wait { self.run_stream(stream) } else { Ok(()) }
    }

    /// In the legacy default stream, waiting for it.
    fn synchronously(&mut self, what: &str, body: impl FnOnce(&mut Machine, Handle<Stream>) -> Outcome) -> Outcome {
        let stream = self.stream(Handle::NULL)?;
        self.refuse_implicit(stream)?;
        self.refuse_unsafe(what)?;
        body(self, stream)?;
        self.run_stream(stream)
    }

    fn copy_now(&mut self, to: End, from: End, bytes: usize) -> Outcome {
        self.synchronously("a synchronous copy", |machine, stream| {
            let (work, _) = machine.copy_work(stream, to, from, bytes)?;
            machine.submit(stream, work)
        })
    }

    fn side(&self, side: &Side) -> Outcome<End> {
        let start = match side.kind {
            1 => End::Host(side.host),
            2 => End::Device(side.device),
            4 => self.end(side.device),
            kind => return fail(Code::NOT_SUPPORTED, format!("memory type {kind}: arrays are not emulated")),
        };
        Ok(start.offset(side.y.wrapping_mul(side.pitch).wrapping_add(side.x_bytes)))
    }

    /// Queues it, row by row; the answer: whether to wait for it.
    fn queue_2d(&mut self, stream: Handle<Stream>, copy: &Copy2d) -> Outcome<bool> {
        let (from, to) = (self.side(&copy.from)?, self.side(&copy.to)?);
        let pitch = |side: &Side| if side.pitch == 0 { copy.width } else { side.pitch };
        if copy.height > 1 && [&copy.from, &copy.to].iter().any(|side| pitch(side) < copy.width) {
            return fail(Code::INVALID_VALUE, format!("rows of {} bytes are wider than their pitch", copy.width));
        }
        let row = |row: usize| {
            let offset = |end: End, side: &Side| end.offset(row.wrapping_mul(pitch(side)));
            self.copy_work(stream, offset(to, &copy.to), offset(from, &copy.from), copy.width)
        };
        let rows: Vec<(Work, bool)> = (0..copy.height).map(row).collect::<Outcome<_>>()?;
        let wait = rows.iter().any(|(_, wait)| *wait);
        self.submit(stream, Work::Rows(rows.into_iter().map(|(work, _)| work).collect()))?;
        Ok(wait)
    }

    fn fill(&mut self, stream: Handle<Stream>, address: u64, value: u32, width: usize, count: usize) -> Outcome {
        if !address.is_multiple_of(width as u64) {
            return fail(Code::INVALID_VALUE, format!("{address:#x} is not a multiple of {width}"));
        }
        let Some(bytes) = count.checked_mul(width) else {
            return fail(Code::INVALID_VALUE, format!("{count} values of {width} bytes"));
        };
        if bytes == 0 {
            return Ok(());
        }
        self.check_range(self.streams.get(stream)?.context, address, bytes)?;
        self.submit(stream, Work::Fill { address, pattern: value.to_le_bytes(), width, count })
    }

    fn fill_now(&mut self, address: u64, value: u32, width: usize, count: usize) -> Outcome {
        self.synchronously("a synchronous fill", |machine, stream| machine.fill(stream, address, value, width, count))
    }

    fn fill_async(&mut self, address: u64, value: u32, width: usize, count: usize, given: Handle<Stream>) -> Outcome {
        let stream = self.stream(given)?;
        self.fill(stream, address, value, width, count)
    }
}

driver_functions! {
    table table;

    fn cuMemcpyHtoD_v2(machine, to: u64, from: Host, bytes: usize) {
        machine.copy_now(End::Device(to), End::Host(from), bytes)
    }

    fn cuMemcpyDtoH_v2(machine, to: Host, from: u64, bytes: usize) {
        machine.copy_now(End::Host(to), End::Device(from), bytes)
    }

    fn cuMemcpyDtoD_v2(machine, to: u64, from: u64, bytes: usize) {
        machine.copy_now(End::Device(to), End::Device(from), bytes)
    }

    fn cuMemcpy(machine, to: u64, from: u64, bytes: usize) {
        machine.copy_now(machine.end(to), machine.end(from), bytes)
    }

    fn cuMemcpyHtoDAsync_v2(machine, to: u64, from: Host, bytes: usize, stream: Handle<Stream>) {
        machine.copy_async(End::Device(to), End::Host(from), bytes, stream)
    }

    fn cuMemcpyDtoHAsync_v2(machine, to: Host, from: u64, bytes: usize, stream: Handle<Stream>) {
        machine.copy_async(End::Host(to), End::Device(from), bytes, stream)
    }

    fn cuMemcpyDtoDAsync_v2(machine, to: u64, from: u64, bytes: usize, stream: Handle<Stream>) {
        machine.copy_async(End::Device(to), End::Device(from), bytes, stream)
    }

    fn cuMemcpyAsync(machine, to: u64, from: u64, bytes: usize, stream: Handle<Stream>) {
        machine.copy_async(machine.end(to), machine.end(from), bytes, stream)
    }

    /// Between contexts of one device.
    fn cuMemcpyPeerAsync(
        machine,
        to: u64,
        _to_context: usize,
        from: u64,
        _from_context: usize,
        bytes: usize,
        stream: Handle<Stream>,
    ) {
        machine.copy_async(End::Device(to), End::Device(from), bytes, stream)
    }

    fn cuMemcpy2D_v2(machine, copy: In<Copy2d>) {
        let copy = copy.read()?;
        machine.synchronously("a synchronous copy", |machine, stream| machine.queue_2d(stream, &copy).map(drop))
    }

    fn cuMemcpy2DUnaligned_v2(machine, copy: In<Copy2d>) {
        let copy = copy.read()?;
        machine.synchronously("a synchronous copy", |machine, stream| machine.queue_2d(stream, &copy).map(drop))
    }

    fn cuMemcpy2DAsync_v2(machine, copy: In<Copy2d>, given: Handle<Stream>) {
        let copy = copy.read()?;
        let stream = machine.stream(given)?;
        if machine.queue_2d(stream, &copy)? {
            machine.run_stream(stream)?;
        }
        Ok(())
    }

    fn cuMemsetD8_v2(machine, address: u64, value: u8, count: usize) {
        machine.fill_now(address, value.into(), 1, count)
    }

    fn cuMemsetD16_v2(machine, address: u64, value: u16, count: usize) {
        machine.fill_now(address, value.into(), 2, count)
    }

    fn cuMemsetD32_v2(machine, address: u64, value: u32, count: usize) {
        machine.fill_now(address, value, 4, count)
    }

    fn cuMemsetD8Async(machine, address: u64, value: u8, count: usize, stream: Handle<Stream>) {
        machine.fill_async(address, value.into(), 1, count, stream)
    }

    fn cuMemsetD16Async(machine, address: u64, value: u16, count: usize, stream: Handle<Stream>) {
        machine.fill_async(address, value.into(), 2, count, stream)
    }

    fn cuMemsetD32Async(machine, address: u64, value: u32, count: usize, stream: Handle<Stream>) {
        machine.fill_async(address, value, 4, count, stream)
    }
}
