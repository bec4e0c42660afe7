//! The devices: initialisation, ordinals, properties.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use super::boundary::{Out, Text};
use super::context::{Context, Primary};
use super::error::{Code, Outcome, fail};
use super::handle::{Handle, Registry};
use super::pool::Pool;
use super::settings::{Board, Settings};
use super::{Machine, driver_functions, enter_before_init};
use crate::exec::Options;
use crate::mem::GlobalMemory;
use crate::profile::Profile;

/// One virtual GPU.
pub struct Device {
    /// Its place among the devices.
    pub ordinal: usize,
    pub profile: Profile,
    pub options: Options,
    pub memory: GlobalMemory,
    pub primary: Primary,
    pub default_pool: Handle<Pool>,
    pub current_pool: Handle<Pool>,
}

impl Device {
    pub fn new(ordinal: usize, board: Board, pools: &mut Registry<Pool>) -> Device {
        let Board { profile, options } = board;
        let default_pool = pools.insert(Pool::new(ordinal));
        Device {
            ordinal,
            profile,
            options,
            memory: GlobalMemory::of_device(ordinal, profile.memory_bytes),
            primary: Primary::default(),
            default_pool,
            current_pool: default_pool,
        }
    }
}

impl Machine {
    fn place(&self, device: i32) -> Outcome<usize> {
        match usize::try_from(device) {
            Ok(ordinal) if ordinal < self.devices.len() => Ok(ordinal),
            _ => {
                let last = self.devices.len() - 1;
                let what = if last == 0 { "the only one is 0".to_owned() } else { format!("there are 0 to {last}") };
                fail(Code::INVALID_DEVICE, format!("device {device}; {what}"))
            }
        }
    }

    /// By its ordinal.
    pub(super) fn device(&self, device: i32) -> Outcome<&Device> {
        Ok(&self.devices[self.place(device)?])
    }

    pub(super) fn device_mut(&mut self, device: i32) -> Outcome<&mut Device> {
        let place = self.place(device)?;
        Ok(&mut self.devices[place])
    }

    /// The device of a context.
    pub(super) fn device_of(&self, context: Handle<Context>) -> Outcome<&Device> {
        Ok(&self.devices[self.contexts.get(context)?.device])
    }

    /// The device in whose memory an address lies.
    pub(super) fn device_at(&self, address: u64) -> Option<&Device> {
        self.devices.iter().find(|device| device.memory.find(address).is_some())
    }

    /// What belongs to `device` is used in a context: it must be that context's device, for there are no peers.
    pub(super) fn check_same_device(&self, what: &str, device: usize, context: Handle<Context>) -> Outcome {
        let own = self.device_of(context)?.ordinal;
        if device == own {
            return Ok(());
        }
        fail(Code::INVALID_VALUE, format!("{what} of device {device} is used on device {own}; devices have no peers"))
    }
}

/// Reads VGPU_* and builds the machine; calls after the first change nothing.
///
/// # Safety
/// None is needed: it takes no pointer.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn cuInit(flags: u32) -> u32 {
    enter_before_init("cuInit", |machine| {
        if flags != 0 {
            return fail(Code::INVALID_VALUE, format!("flags are {flags}; they must be 0"));
        }
        if machine.is_none() {
            *machine = Some(Machine::new(settings()?));
        }
        Ok(())
    })
}

/// What [`vgpu_set_devices`] was given.
static CHOSEN: Mutex<Option<String>> = Mutex::new(None);

/// The environment; a list that the program chose itself stands before what it says of devices.
fn settings_with(chosen: Option<&str>) -> Outcome<Settings> {
    let read = |name: &str| match (name, chosen) {
        ("VGPU_DEVICES", Some(list)) => Some(list.to_owned()),
        ("VGPU_DEVICE", Some(_)) => None,
        _ => std::env::var(name).ok(),
    };
    Settings::from_environment(read).or_else(|e| fail(Code::INVALID_VALUE, e))
}

fn settings() -> Outcome<Settings> {
    settings_with(CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).as_deref())
}

/// Not of CUDA: chooses the devices as VGPU_DEVICES does, and instead of it. It comes before cuInit.
///
/// # Safety
/// `list` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vgpu_set_devices(list: Text) -> u32 {
    enter_before_init("vgpu_set_devices", |machine| {
        if machine.is_some() {
            return fail(Code::ILLEGAL_STATE, "cuInit has made the devices; choose them before it");
        }
        let list = list.get()?;
        settings_with(Some(&list))?;
        *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(list);
        Ok(())
    })
}

/// The newest CUDA that the driver knows; allowed before cuInit. Each profile brings a driver of its own: that of the
/// thread's context's device answers, and without a context the oldest.
///
/// # Safety
/// `version` is null or valid for a write.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn cuDriverGetVersion(version: Out<i32>) -> u32 {
    enter_before_init("cuDriverGetVersion", |machine| {
        let profiles: Vec<Profile> = match machine {
            None => settings()?.boards.into_iter().map(|board| board.profile).collect(),
            Some(machine) => match machine.thread_context().and_then(|context| machine.device_of(context)) {
                Ok(device) => vec![device.profile],
                Err(_) => machine.devices.iter().map(|device| device.profile).collect(),
            },
        };
        let oldest = profiles.iter().map(|profile| profile.driver_version).min();
        version.write(oldest.unwrap_or_default() as i32)
    })
}

/// A CUuuid: "vgpu-", the profile's name, and the ordinal in the last two bytes.
type Uuid = [u8; 16];

fn uuid(device: &Device) -> Uuid {
    let mut bytes = *b"vgpu-           ";
    for (to, from) in bytes[5..14].iter_mut().zip(device.profile.name.bytes()) {
        *to = from;
    }
    bytes[14..].copy_from_slice(&(device.ordinal as u16).to_be_bytes());
    bytes
}

/// PCI domain and bus: a bus for each device.
fn pci(device: &Device) -> (usize, usize) {
    (device.ordinal >> 8, device.ordinal & 0xff)
}

/// CUdevice_attribute by its number.
fn attribute(device: &Device, number: u32) -> Option<i32> {
    let p = &device.profile;
    Some(match number {
        1 => 1024,                                     // MAX_THREADS_PER_BLOCK
        2 | 3 => 1024,                                 // MAX_BLOCK_DIM_X, _Y
        4 => 64,                                       // MAX_BLOCK_DIM_Z
        5 => i32::MAX,                                 // MAX_GRID_DIM_X
        6 | 7 => 65535,                                // MAX_GRID_DIM_Y, _Z
        8 => p.shared_per_block as i32,                // MAX_SHARED_MEMORY_PER_BLOCK
        9 => 65536,                                    // TOTAL_CONSTANT_MEMORY
        10 => 32,                                      // WARP_SIZE
        11 => i32::MAX,                                // MAX_PITCH
        12 => p.registers_per_block as i32,            // MAX_REGISTERS_PER_BLOCK
        13 => p.clock_khz as i32,                      // CLOCK_RATE
        14 | 30 => 512,                                // TEXTURE_ALIGNMENT, SURFACE_ALIGNMENT
        15 => 1,                                       // GPU_OVERLAP
        16 => p.multiprocessors as i32,                // MULTIPROCESSOR_COUNT
        17 => 0,                                       // KERNEL_EXEC_TIMEOUT
        18 => i32::from(p.integrated),                 // INTEGRATED
        19 => 1,                                       // CAN_MAP_HOST_MEMORY
        20 => 0,                                       // COMPUTE_MODE
        31 => 1,                                       // CONCURRENT_KERNELS
        33 => pci(device).1 as i32,                    // PCI_BUS_ID
        32..=35 => 0,                                  // ECC_ENABLED, PCI_DEVICE_ID, TCC_DRIVER
        36 => p.memory_clock_khz as i32,               // MEMORY_CLOCK_RATE
        37 => p.memory_bus_bits as i32,                // GLOBAL_MEMORY_BUS_WIDTH
        38 => p.l2_bytes as i32,                       // L2_CACHE_SIZE
        39 => p.max_threads_per_multiprocessor as i32, // MAX_THREADS_PER_MULTIPROCESSOR
        40 => 2,                                       // ASYNC_ENGINE_COUNT
        41 => 1,                                       // UNIFIED_ADDRESSING
        50 => pci(device).0 as i32,                    // PCI_DOMAIN_ID
        75 => p.major as i32,                          // COMPUTE_CAPABILITY_MAJOR
        76 => p.minor as i32,                          // COMPUTE_CAPABILITY_MINOR
        78..=80 => 1, // STREAM_PRIORITIES_SUPPORTED, GLOBAL_L1_CACHE_SUPPORTED, LOCAL_L1_CACHE_SUPPORTED
        81 => p.shared_per_multiprocessor as i32, // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        82 => p.registers_per_block as i32, // MAX_REGISTERS_PER_MULTIPROCESSOR
        90 => 1,      // COMPUTE_PREEMPTION_SUPPORTED
        95 => 1,      // COOPERATIVE_LAUNCH
        97 => p.shared_per_block_optin as i32, // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        99 => 1,      // HOST_REGISTER_SUPPORTED
        106 => p.max_blocks_per_multiprocessor as i32, // MAX_BLOCKS_PER_MULTIPROCESSOR
        111 => Profile::SHARED_RESERVED as i32, // RESERVED_SHARED_MEMORY_PER_BLOCK
        115 => 1,     // MEMORY_POOLS_SUPPORTED
        120 => i32::from(!p.gpcs.is_empty()), // CLUSTER_LAUNCH
        126 => {
            if p.major >= 9 {
                4
            } else {
                1
            }
        } // MEM_SYNC_DOMAIN_COUNT
        127 => i32::from(p.major >= 9), // TENSOR_MAP_ACCESS_SUPPORTED
        // Everything else that CUDA defines is something that this device does not have: textures, managed
        // memory, peers, …
        21..=161 => 0,
        _ => return None,
    })
}

driver_functions! {
    table table;

    fn cuDeviceGetCount(machine, count: Out<i32>) {
        count.write(machine.devices.len() as i32)
    }

    fn cuDeviceGet(machine, device: Out<i32>, ordinal: i32) {
        machine.device(ordinal)?;
        device.write(ordinal)
    }

    fn cuDeviceGetName(machine, name: Out<c_char>, size: i32, device: i32) {
        name.write_text(machine.device(device)?.profile.device_name, size.max(0) as usize)
    }

    fn cuDeviceGetUuid(machine, id: Out<Uuid>, device: i32) {
        id.write(uuid(machine.device(device)?))
    }

    fn cuDeviceGetUuid_v2(machine, id: Out<Uuid>, device: i32) {
        id.write(uuid(machine.device(device)?))
    }

    fn cuDeviceTotalMem_v2(machine, bytes: Out<usize>, device: i32) {
        bytes.write(machine.device(device)?.profile.memory_bytes as usize)
    }

    fn cuDeviceGetAttribute(machine, value: Out<i32>, number: u32, device: i32) {
        match attribute(machine.device(device)?, number) {
            Some(found) => value.write(found),
            None => fail(Code::INVALID_VALUE, format!("device attribute {number} is not known")),
        }
    }

    fn cuDeviceComputeCapability(machine, major: Out<i32>, minor: Out<i32>, device: i32) {
        let profile = &machine.device(device)?.profile;
        major.write(profile.major as i32)?;
        minor.write(profile.minor as i32)
    }

    fn cuDeviceGetPCIBusId(machine, name: Out<c_char>, size: i32, device: i32) {
        let (domain, bus) = pci(machine.device(device)?);
        name.write_text(&format!("{domain:04x}:{bus:02x}:00.0"), size.max(0) as usize)
    }

    /// Never: no device reaches another's memory.
    fn cuDeviceCanAccessPeer(machine, can: Out<i32>, device: i32, peer: i32) {
        machine.device(device)?;
        machine.device(peer)?;
        can.write(0)
    }

    fn cuDeviceGetDefaultMemPool(machine, pool: Out<Handle<Pool>>, device: i32) {
        pool.write(machine.device(device)?.default_pool)
    }

    fn cuDeviceGetMemPool(machine, pool: Out<Handle<Pool>>, device: i32) {
        pool.write(machine.device(device)?.current_pool)
    }

    fn cuDeviceSetMemPool(machine, device: i32, pool: Handle<Pool>) {
        let (own, of_pool) = (machine.device(device)?.ordinal, machine.pools.get(pool)?.device);
        if own != of_pool {
            return fail(Code::INVALID_VALUE, format!("the pool is of device {of_pool}, not of {own}"));
        }
        machine.device_mut(device)?.current_pool = pool;
        Ok(())
    }
}
