//! Initialisation and the device's properties.

use std::ffi::c_char;

use super::boundary::Out;
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::pool::Pool;
use super::settings::Settings;
use super::{Machine, driver_functions, enter_before_init};
use crate::profile::Profile;

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
            let settings = Settings::from_environment(|name| std::env::var(name).ok())
                .or_else(|e| fail(Code::INVALID_VALUE, e))?;
            *machine = Some(Machine::new(settings));
        }
        Ok(())
    })
}

/// The newest CUDA that the profile's driver knows; allowed before cuInit.
///
/// # Safety
/// `version` is null or valid for a write.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn cuDriverGetVersion(version: Out<i32>) -> u32 {
    enter_before_init("cuDriverGetVersion", |machine| {
        let settings = match machine {
            Some(machine) => machine.settings.clone(),
            None => {
                Settings::from_environment(|name| std::env::var(name).ok()).or_else(|e| fail(Code::INVALID_VALUE, e))?
            }
        };
        version.write(settings.profile.driver_version as i32)
    })
}

/// There is one device, 0.
pub(super) fn check_device(device: i32) -> Outcome {
    if device == 0 { Ok(()) } else { fail(Code::INVALID_DEVICE, format!("device {device}; the only one is 0")) }
}

/// A CUuuid: "vgpu-" and the profile's name.
type Uuid = [u8; 16];

fn uuid(profile: &Profile) -> Uuid {
    let mut bytes = *b"vgpu-           ";
    for (to, from) in bytes[5..].iter_mut().zip(profile.name.bytes()) {
        *to = from;
    }
    bytes
}

/// CUdevice_attribute by its number.
fn attribute(p: &Profile, number: u32) -> Option<i32> {
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
        32..=35 => 0,                                  // ECC_ENABLED, PCI_BUS_ID, PCI_DEVICE_ID, TCC_DRIVER
        36 => p.memory_clock_khz as i32,               // MEMORY_CLOCK_RATE
        37 => p.memory_bus_bits as i32,                // GLOBAL_MEMORY_BUS_WIDTH
        38 => p.l2_bytes as i32,                       // L2_CACHE_SIZE
        39 => p.max_threads_per_multiprocessor as i32, // MAX_THREADS_PER_MULTIPROCESSOR
        40 => 2,                                       // ASYNC_ENGINE_COUNT
        41 => 1,                                       // UNIFIED_ADDRESSING
        50 => 0,                                       // PCI_DOMAIN_ID
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
        // Everything else that CUDA defines is something that this device does not have: textures, managed
        // memory, peers, clusters, …
        21..=161 => 0,
        _ => return None,
    })
}

driver_functions! {
    table table;

    /// One.
    fn cuDeviceGetCount(_machine, count: Out<i32>) {
        count.write(1)
    }

    fn cuDeviceGet(_machine, device: Out<i32>, ordinal: i32) {
        check_device(ordinal)?;
        device.write(ordinal)
    }

    fn cuDeviceGetName(machine, name: Out<c_char>, size: i32, device: i32) {
        check_device(device)?;
        name.write_text(machine.settings.profile.device_name, size.max(0) as usize)
    }

    fn cuDeviceGetUuid(machine, id: Out<Uuid>, device: i32) {
        check_device(device)?;
        id.write(uuid(&machine.settings.profile))
    }

    fn cuDeviceGetUuid_v2(machine, id: Out<Uuid>, device: i32) {
        check_device(device)?;
        id.write(uuid(&machine.settings.profile))
    }

    fn cuDeviceTotalMem_v2(machine, bytes: Out<usize>, device: i32) {
        check_device(device)?;
        bytes.write(machine.settings.profile.memory_bytes as usize)
    }

    fn cuDeviceGetAttribute(machine, value: Out<i32>, number: u32, device: i32) {
        check_device(device)?;
        match attribute(&machine.settings.profile, number) {
            Some(found) => value.write(found),
            None => fail(Code::INVALID_VALUE, format!("device attribute {number} is not known")),
        }
    }

    fn cuDeviceComputeCapability(machine, major: Out<i32>, minor: Out<i32>, device: i32) {
        check_device(device)?;
        major.write(machine.settings.profile.major as i32)?;
        minor.write(machine.settings.profile.minor as i32)
    }

    fn cuDeviceGetPCIBusId(_machine, name: Out<c_char>, size: i32, device: i32) {
        check_device(device)?;
        name.write_text("0000:00:00.0", size.max(0) as usize)
    }

    /// No: there is no other device.
    fn cuDeviceCanAccessPeer(_machine, can: Out<i32>, device: i32, peer: i32) {
        check_device(device)?;
        check_device(peer)?;
        can.write(0)
    }

    fn cuDeviceGetDefaultMemPool(machine, pool: Out<Handle<Pool>>, device: i32) {
        check_device(device)?;
        pool.write(machine.default_pool)
    }

    fn cuDeviceGetMemPool(machine, pool: Out<Handle<Pool>>, device: i32) {
        check_device(device)?;
        pool.write(machine.current_pool)
    }

    fn cuDeviceSetMemPool(machine, device: i32, pool: Handle<Pool>) {
        check_device(device)?;
        machine.pools.get(pool)?;
        machine.current_pool = pool;
        Ok(())
    }
}
