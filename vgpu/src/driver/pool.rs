//! Memory pools. All of a device take from the same memory, and nothing freed is given out again, so that attributes are only kept.

use std::collections::BTreeMap;

use super::boundary::{Host, In, Out};
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::{Machine, driver_functions};

pub struct Pool {
    /// The ordinal of the device whose memory it gives out.
    pub device: usize,
    /// By CUmemPool_attribute.
    attributes: BTreeMap<u32, u64>,
}

/// REUSE_FOLLOW_EVENT_DEPENDENCIES, REUSE_ALLOW_OPPORTUNISTIC, REUSE_ALLOW_INTERNAL_DEPENDENCIES: 32 bits;
/// RELEASE_THRESHOLD, RESERVED_MEM_CURRENT, RESERVED_MEM_HIGH, USED_MEM_CURRENT, USED_MEM_HIGH: 64.
const ATTRIBUTES: [(u32, u64); 8] = [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0)];
const LAST_NARROW: u32 = 3;
const FIRST_OF_USE: u32 = 5;

/// CUmemPoolProps, as far as it is looked at.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Properties {
    _allocation: u32,
    _shared_as: u32,
    /// CUmemLocationType: 1 is a device.
    place: u32,
    device: i32,
}

const ON_A_DEVICE: u32 = 1;

impl Pool {
    pub fn new(device: usize) -> Pool {
        Pool { device, attributes: ATTRIBUTES.into() }
    }
}

impl Machine {
    fn pool_attribute(&self, pool: Handle<Pool>, number: u32) -> Outcome<u64> {
        let pool = self.pools.get(pool)?;
        let (free, total) = self.devices[pool.device].memory.info();
        match pool.attributes.get(&number) {
            Some(_) if number >= FIRST_OF_USE => Ok(total - free),
            Some(&value) => Ok(value),
            None => fail(Code::INVALID_VALUE, format!("pool attribute {number} is not known")),
        }
    }
}

driver_functions! {
    table table;

    /// Of the properties, sharing is not looked at.
    fn cuMemPoolCreate(machine, answer: Out<Handle<Pool>>, properties: In<Properties>) {
        let properties = properties.read()?;
        if properties.place != ON_A_DEVICE {
            return fail(Code::NOT_SUPPORTED, "pools of memory that is no device's are not emulated");
        }
        let device = machine.device(properties.device)?.ordinal;
        answer.write(machine.pools.insert(Pool::new(device)))
    }

    fn cuMemPoolDestroy(machine, pool: Handle<Pool>) {
        let ordinal = machine.pools.get(pool)?.device;
        let device = &mut machine.devices[ordinal];
        if pool == device.default_pool {
            return fail(Code::INVALID_VALUE, "the default pool cannot be destroyed");
        }
        if device.current_pool == pool {
            device.current_pool = device.default_pool;
        }
        machine.pools.remove(pool)?;
        Ok(())
    }

    /// Nothing is held back: nothing to do.
    fn cuMemPoolTrimTo(machine, pool: Handle<Pool>, _keep: usize) {
        machine.pools.get(pool)?;
        Ok(())
    }

    fn cuMemPoolGetAttribute(machine, pool: Handle<Pool>, number: u32, value: Host) {
        let found = machine.pool_attribute(pool, number)?;
        if number <= LAST_NARROW { value.write(&(found as u32).to_ne_bytes()) } else { value.write(&found.to_ne_bytes()) }
    }

    fn cuMemPoolSetAttribute(machine, pool: Handle<Pool>, number: u32, value: Host) {
        machine.pool_attribute(pool, number)?;
        let new = if number <= LAST_NARROW {
            u64::from(In::<u32>::from(value).read()?)
        } else {
            In::<u64>::from(value).read()?
        };
        machine.pools.get_mut(pool)?.attributes.insert(number, new);
        Ok(())
    }
}
