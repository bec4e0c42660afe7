//! Memory pools. All take from the same memory, and nothing freed is given out again, so that attributes are only kept.

use std::collections::BTreeMap;

use super::boundary::{Host, In, Out};
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::{Machine, driver_functions};

/// Attributes by CUmemPool_attribute.
pub struct Pool {
    attributes: BTreeMap<u32, u64>,
}

/// REUSE_FOLLOW_EVENT_DEPENDENCIES, REUSE_ALLOW_OPPORTUNISTIC, REUSE_ALLOW_INTERNAL_DEPENDENCIES: 32 bits;
/// RELEASE_THRESHOLD, RESERVED_MEM_CURRENT, RESERVED_MEM_HIGH, USED_MEM_CURRENT, USED_MEM_HIGH: 64.
const ATTRIBUTES: [(u32, u64); 8] = [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0)];
const LAST_NARROW: u32 = 3;
const FIRST_OF_USE: u32 = 5;

impl Default for Pool {
    fn default() -> Pool {
        Pool { attributes: ATTRIBUTES.into() }
    }
}

impl Machine {
    fn pool_attribute(&mut self, pool: Handle<Pool>, number: u32) -> Outcome<u64> {
        let (free, total) = self.memory.info();
        match self.pools.get(pool)?.attributes.get(&number) {
            Some(_) if number >= FIRST_OF_USE => Ok(total - free),
            Some(&value) => Ok(value),
            None => fail(Code::INVALID_VALUE, format!("pool attribute {number} is not known")),
        }
    }
}

driver_functions! {
    table table;

    /// Properties (host memory, sharing) are not looked at.
    fn cuMemPoolCreate(machine, answer: Out<Handle<Pool>>, properties: In<u8>) {
        properties.read()?;
        answer.write(machine.pools.insert(Pool::default()))
    }

    fn cuMemPoolDestroy(machine, pool: Handle<Pool>) {
        if pool == machine.default_pool {
            return fail(Code::INVALID_VALUE, "the default pool cannot be destroyed");
        }
        machine.pools.remove(pool)?;
        if machine.current_pool == pool {
            machine.current_pool = machine.default_pool;
        }
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
