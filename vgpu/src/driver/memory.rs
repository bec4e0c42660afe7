//! Device memory and page-locked host memory: getting it, giving it back, asking about it.

use super::boundary::{Host, In, Out, Pinned};
use super::context::Context;
use super::device::Device;
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::pool::Pool;
use super::stream::Stream;
use super::work::Work;
use super::{Machine, driver_functions};

/// Device memory that somebody owns.
pub struct Allocation {
    pub context: Handle<Context>,
    owner: Owner,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Program,
    /// The variables of a module.
    Module,
    /// The device's view of page-locked memory.
    Mapping,
    /// Freed, as soon as the stream gets to it.
    Leaving,
}

/// Page-locked host memory, by its first address.
pub struct HostBlock {
    pub context: Handle<Context>,
    bytes: usize,
    flags: u32,
    /// Memory of this library; none for registered memory of the program.
    _pinned: Option<Pinned>,
    /// Where its context's device sees it. Its bytes are brought over before each launch and back after it.
    device: Option<u64>,
}

impl Allocation {
    pub fn of_module(context: Handle<Context>) -> Allocation {
        Allocation { context, owner: Owner::Module }
    }
}

/// CU_MEMHOSTALLOC_PORTABLE 1, DEVICEMAP 2, WRITECOMBINED 4.
const HOST_FLAGS: u32 = 7;

impl Machine {
    fn allocate(&mut self, bytes: usize, owner: Owner) -> Outcome<u64> {
        let context = self.current()?;
        if bytes == 0 {
            return fail(Code::INVALID_VALUE, "an allocation of 0 bytes");
        }
        let address = self.device_of(context)?.memory.alloc(bytes)?;
        self.allocations.insert(address, Allocation { context, owner });
        Ok(address)
    }

    fn allocate_async(&mut self, bytes: usize, given: Handle<Stream>) -> Outcome<u64> {
        let stream = self.stream(given)?;
        if self.streams.get(stream)?.capture.is_some() {
            return fail(
                Code::NOT_SUPPORTED,
                "allocations as nodes of a graph are not emulated; allocate before the capture",
            );
        }
        self.refuse_implicit(stream)?;
        let address = self.allocate(bytes, Owner::Program)?;
        self.enqueue(stream, Work::Allocated, Vec::new())?;
        self.note_allocation(address, (stream, self.streams.get(stream)?.issued()));
        Ok(address)
    }

    /// The context of an allocation: it is the program's, and this its first address.
    fn check_freeable(&self, address: u64) -> Outcome<Handle<Context>> {
        match self.allocations.get(&address) {
            Some(Allocation { owner: Owner::Program, context }) => Ok(*context),
            Some(Allocation { owner: Owner::Leaving, .. }) => {
                fail(Code::INVALID_VALUE, format!("{address:#x} was freed"))
            }
            Some(_) => fail(Code::INVALID_VALUE, format!("{address:#x} belongs to a module or to host memory")),
            None => fail(Code::INVALID_VALUE, format!("{address:#x} is not the start of an allocation, or was freed")),
        }
    }

    /// Frees now; everything in flight is done first, as the device would.
    fn free(&mut self, address: u64) -> Outcome {
        let context = self.current()?;
        self.refuse_unsafe("freeing memory")?;
        if address == 0 {
            return Ok(());
        }
        let owner = self.check_freeable(address)?;
        self.check_same_device("memory", self.device_of(owner)?.ordinal, context)?;
        self.run_context(context)?;
        self.allocations.remove(&address);
        Ok(self.device_of(context)?.memory.free(address)?)
    }

    fn free_async(&mut self, address: u64, given: Handle<Stream>) -> Outcome {
        let stream = self.stream(given)?;
        if address == 0 {
            return Ok(());
        }
        let owner = self.check_freeable(address)?;
        self.check_same_device("memory", self.device_of(owner)?.ordinal, self.streams.get(stream)?.context)?;
        if self.streams.get(stream)?.capture.is_some() {
            let what = "freeing as a node of a graph is not emulated; free after the capture";
            return fail(Code::NOT_SUPPORTED, what);
        }
        self.submit(stream, Work::Free(address))?;
        if let Some(allocation) = self.allocations.get_mut(&address) {
            allocation.owner = Owner::Leaving;
        }
        self.note_free(address, (stream, self.streams.get(stream)?.issued()));
        Ok(())
    }

    /// The range lies in one living allocation of the context's device.
    pub(super) fn check_range(&self, context: Handle<Context>, address: u64, bytes: usize) -> Outcome {
        let memory = &self.device_of(context)?.memory;
        let fits = memory.find(address).is_some_and(|(start, length)| {
            address.checked_add(bytes as u64).is_some_and(|end| end <= start + length as u64)
        });
        if fits || bytes == 0 {
            return Ok(());
        }
        if let Some(other) = self.device_at(address) {
            self.check_same_device("memory", other.ordinal, context)?;
        }
        let what = match memory.find(address) {
            Some((start, length)) => {
                format!("{bytes} bytes at {address:#x}: the allocation is {length} bytes at {start:#x}")
            }
            None => format!("{bytes} bytes at {address:#x}: no allocation is there, or it was freed"),
        };
        fail(Code::INVALID_VALUE, what)
    }

    fn host_block(&self, host: Host) -> Outcome<&HostBlock> {
        match self.host_blocks.get(&host.address()) {
            Some(block) => Ok(block),
            None => fail(Code::INVALID_VALUE, format!("{:#x} is not the start of page-locked memory", host.address())),
        }
    }

    /// Whether a range is page-locked: then copies to and from it are left for later.
    pub(super) fn is_pinned(&self, host: Host, bytes: usize) -> bool {
        let start = host.address();
        self.host_blocks
            .range(..=start)
            .next_back()
            .is_some_and(|(&first, block)| start.saturating_add(bytes) <= first + block.bytes)
    }

    fn new_pinned(&mut self, bytes: usize, flags: u32) -> Outcome<Host> {
        let context = self.current()?;
        self.refuse_unsafe("allocating page-locked memory")?;
        if bytes == 0 || flags & !HOST_FLAGS != 0 {
            return fail(Code::INVALID_VALUE, format!("{bytes} bytes with flags {flags:#x}"));
        }
        let pinned = Pinned::new(bytes);
        let host = pinned.host();
        let block = HostBlock { context, bytes, flags, _pinned: Some(pinned), device: None };
        self.host_blocks.insert(host.address(), block);
        Ok(host)
    }

    /// Everything in flight is done first: it may use the memory.
    fn leave_host(&mut self, host: Host, own: bool, unknown: Code) -> Outcome {
        let context = self.current()?;
        self.refuse_unsafe("giving page-locked memory back")?;
        let block = self.host_blocks.get(&host.address()).filter(|block| block._pinned.is_some() == own);
        let Some(device) = block.map(|block| block.device) else {
            let what = format!("{:#x} is not the start of page-locked memory, or was given back", host.address());
            return fail(unknown, what);
        };
        self.run_context(context)?;
        self.host_blocks.remove(&host.address());
        if let Some((address, device)) = device.and_then(|address| Some((address, self.device_at(address)?))) {
            device.memory.free(address)?;
            self.allocations.remove(&address);
        }
        Ok(())
    }

    fn device_view(&mut self, host: Host) -> Outcome<u64> {
        let block = self.host_block(host)?;
        let (owner, bytes) = (self.device_of(block.context)?.ordinal, block.bytes);
        self.check_same_device("page-locked memory", owner, self.current()?)?;
        if let Some(address) = block.device {
            return Ok(address);
        }
        let address = self.allocate(bytes, Owner::Mapping)?;
        if let Some(block) = self.host_blocks.get_mut(&host.address()) {
            block.device = Some(address);
        }
        Ok(address)
    }

    /// The page-locked memory that a device sees.
    fn mapped(&self, device: usize) -> impl Iterator<Item = (Host, u64, usize)> {
        let seen =
            self.host_blocks.iter().filter(move |(_, b)| self.device_of(b.context).is_ok_and(|d| d.ordinal == device));
        seen.filter_map(|(&host, b)| Some((Host::at_address(host), b.device?, b.bytes)))
    }

    /// Brings page-locked memory that the device sees over, before a launch.
    pub(super) fn mapped_to_device(&self, device: &Device) -> Outcome {
        let mut seen = self.mapped(device.ordinal);
        seen.try_for_each(|(host, address, bytes)| Ok(device.memory.write(address, &host.read(bytes)?)?))
    }

    /// And back, after it.
    pub(super) fn mapped_to_host(&self, device: &Device) -> Outcome {
        self.mapped(device.ordinal).try_for_each(|(host, address, bytes)| {
            let mut copy = vec![0; bytes];
            device.memory.read(address, &mut copy)?;
            host.write(&copy)
        })
    }

    /// CUpointer_attribute of a pointer: a number of 1, 4 or 8 bytes.
    fn pointer_attribute(&self, number: u32, address: u64) -> Outcome<Vec<u8>> {
        let device = self.device_at(address).and_then(|device| device.memory.find(address));
        let host = Host::at_address(address as usize);
        let block = self.host_blocks.range(..=address as usize).next_back().filter(|_| self.is_pinned(host, 1));
        if device.is_none() && block.is_none() {
            return fail(Code::INVALID_VALUE, format!("{address:#x} is neither device nor page-locked memory"));
        }
        let context = match (device, block) {
            (Some((start, _)), _) => self.allocations.get(&start).map_or(Handle::NULL, |a| a.context),
            (None, Some((_, block))) => block.context,
            (None, None) => Handle::NULL,
        };
        let range = device.unwrap_or(block.map_or((0, 0), |(&start, b)| (start as u64, b.bytes)));
        Ok(match number {
            1 => context.0.to_ne_bytes().to_vec(),                                 // CONTEXT
            2 => (if device.is_some() { 2u32 } else { 1 }).to_ne_bytes().to_vec(), // MEMORY_TYPE
            3 | 4 => address.to_ne_bytes().to_vec(),                               // DEVICE_POINTER, HOST_POINTER
            8 => vec![0],                                                          // IS_MANAGED
            9 => (self.device_of(context)?.ordinal as i32).to_ne_bytes().to_vec(), // DEVICE_ORDINAL
            11 => range.0.to_ne_bytes().to_vec(),                                  // RANGE_START_ADDR
            12 => range.1.to_ne_bytes().to_vec(),                                  // RANGE_SIZE
            13 => vec![1],                                                         // MAPPED
            _ => return fail(Code::NOT_SUPPORTED, format!("pointer attribute {number} is not emulated")),
        })
    }
}

// A null where the answer should go is noticed by the first write, before anything is allocated.
driver_functions! {
    table table;

    fn cuMemAlloc_v2(machine, address: Out<u64>, bytes: usize) {
        machine.current()?;
        machine.refuse_unsafe("allocating memory")?;
        address.write(0)?;
        address.write(machine.allocate(bytes, Owner::Program)?)
    }

    /// Rows of a multiple of 512 bytes.
    fn cuMemAllocPitch_v2(machine, address: Out<u64>, pitch: Out<usize>, width: usize, height: usize, _element: u32) {
        machine.current()?;
        machine.refuse_unsafe("allocating memory")?;
        let Some((row, bytes)) = width.checked_next_multiple_of(512).and_then(|r| Some((r, r.checked_mul(height)?))) else {
            return fail(Code::INVALID_VALUE, format!("{height} rows of {width} bytes"));
        };
        pitch.write(row)?;
        address.write(0)?;
        address.write(machine.allocate(bytes, Owner::Program)?)
    }

    fn cuMemFree_v2(machine, address: u64) {
        machine.free(address)
    }

    /// The memory is there at once; stream order begins with its free.
    fn cuMemAllocAsync(machine, address: Out<u64>, bytes: usize, stream: Handle<Stream>) {
        address.write(0)?;
        address.write(machine.allocate_async(bytes, stream)?)
    }

    fn cuMemAllocFromPoolAsync(
        machine,
        address: Out<u64>,
        bytes: usize,
        pool: Handle<Pool>,
        stream: Handle<Stream>,
    ) {
        let of_pool = machine.pools.get(pool)?.device;
        let stream = machine.stream(stream)?;
        machine.check_same_device("a pool", of_pool, machine.streams.get(stream)?.context)?;
        address.write(0)?;
        address.write(machine.allocate_async(bytes, stream)?)
    }

    fn cuMemFreeAsync(machine, address: u64, stream: Handle<Stream>) {
        machine.free_async(address, stream)
    }

    fn cuMemGetInfo_v2(machine, free: Out<usize>, total: Out<usize>) {
        let context = machine.current()?;
        let (left, all) = machine.device_of(context)?.memory.info();
        free.write(left as usize)?;
        total.write(all as usize)
    }

    fn cuMemGetAddressRange_v2(machine, start: Out<u64>, bytes: Out<usize>, address: u64) {
        machine.current()?;
        match machine.device_at(address).and_then(|device| device.memory.find(address)) {
            Some((first, length)) => {
                start.write_if_wanted(first);
                bytes.write_if_wanted(length);
                Ok(())
            }
            None => fail(Code::NOT_FOUND, format!("{address:#x} lies in no allocation")),
        }
    }

    fn cuMemHostAlloc(machine, answer: Out<Host>, bytes: usize, flags: u32) {
        answer.write(Host::at_address(0))?;
        answer.write(machine.new_pinned(bytes, flags)?)
    }

    fn cuMemAllocHost_v2(machine, answer: Out<Host>, bytes: usize) {
        answer.write(Host::at_address(0))?;
        answer.write(machine.new_pinned(bytes, 0)?)
    }

    fn cuMemFreeHost(machine, host: Host) {
        machine.leave_host(host, true, Code::INVALID_VALUE)
    }

    fn cuMemHostRegister_v2(machine, host: Host, bytes: usize, flags: u32) {
        let context = machine.current()?;
        if host.is_null() || bytes == 0 {
            return fail(Code::INVALID_VALUE, format!("{bytes} bytes at {:#x}", host.address()));
        }
        let (first, end) = (host.address(), host.address().saturating_add(bytes));
        if machine.host_blocks.iter().any(|(&start, block)| start < end && first < start + block.bytes) {
            return fail(Code::HOST_MEMORY_ALREADY_REGISTERED, format!("{bytes} bytes at {first:#x} overlap page-locked memory"));
        }
        machine.host_blocks.insert(first, HostBlock { context, bytes, flags, _pinned: None, device: None });
        Ok(())
    }

    fn cuMemHostUnregister(machine, host: Host) {
        machine.leave_host(host, false, Code::HOST_MEMORY_NOT_REGISTERED)
    }

    /// Where the device sees page-locked memory; another address than the host's.
    fn cuMemHostGetDevicePointer_v2(machine, address: Out<u64>, host: Host, _flags: u32) {
        address.write(machine.device_view(host)?)
    }

    fn cuMemHostGetFlags(machine, flags: Out<u32>, host: Host) {
        flags.write(machine.host_block(host)?.flags)
    }

    fn cuPointerGetAttribute(machine, data: Host, number: u32, address: u64) {
        machine.current()?;
        data.write(&machine.pointer_attribute(number, address)?)
    }

    /// Unknown pointers are no error here: their attributes are zero.
    fn cuPointerGetAttributes(machine, count: u32, numbers: In<u32>, data: In<Host>, address: u64) {
        machine.current()?;
        for i in 0..count as usize {
            match machine.pointer_attribute(numbers.at(i)?, address) {
                Ok(value) => data.at(i)?.write(&value)?,
                Err(failure) if failure.code == Code::INVALID_VALUE => data.at(i)?.write(&0u32.to_ne_bytes())?,
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}
