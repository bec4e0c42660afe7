//! Attributes of launches (CUlaunchAttribute): those that change what a launch does, hints, and those that are refused.

use super::boundary::{Host, In};
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::shape::Shape;
use super::stream::Stream;

/// CUlaunchConfig
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaunchConfig {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    pub stream: Handle<Stream>,
    attributes: usize,
    attribute_count: u32,
}

/// CUlaunchAttribute: the kind, then 64 bytes of value.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct LaunchAttribute {
    id: u32,
    _padding: u32,
    value: AttributeValue,
}

/// CUlaunchAttributeValue: a union, here its words.
pub type AttributeValue = [u32; 16];

/// What the attributes of a launch ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Blocks of a cluster.
    pub cluster: Option<[u32; 3]>,
    /// The blocks of the grid may wait for each other.
    pub cooperative: bool,
    /// It may begin before the kernel before it in its stream has ended.
    pub programmatic: bool,
    /// CUclusterSchedulingPolicy
    pub policy: u32,
    pub priority: i32,
    /// Percent of the multiprocessor's memory that is to be shared memory.
    pub carveout: Option<u32>,
}

/// CUlaunchAttributeID
pub const COOPERATIVE: u32 = 2;
pub const CLUSTER_DIMENSION: u32 = 4;
pub const CLUSTER_POLICY: u32 = 5;
pub const PROGRAMMATIC: u32 = 6;
const PROGRAMMATIC_EVENT: u32 = 7;
pub const PRIORITY: u32 = 8;
const LAUNCH_COMPLETION_EVENT: u32 = 12;
const DEVICE_UPDATABLE: u32 = 13;
const CARVEOUT: u32 = 14;
/// IGNORE, ACCESS_POLICY_WINDOW, SYNCHRONIZATION_POLICY, MEM_SYNC_DOMAIN_MAP, MEM_SYNC_DOMAIN, PREFERRED_CLUSTER_DIMENSION (the
/// device may keep to the other one), NVLINK_UTIL_CENTRIC_SCHEDULING: nothing here depends on them.
const HINTS: [u32; 7] = [0, 1, 3, 9, 10, 11, 16];

impl LaunchConfig {
    pub fn shape(&self) -> Shape {
        Shape { grid: self.grid, block: self.block, dynamic_shared: self.dynamic_shared }
    }

    pub fn attributes(&self) -> Outcome<Attributes> {
        let list = In::<LaunchAttribute>::from(Host::at_address(self.attributes));
        let mut attributes = Attributes::default();
        for i in 0..self.attribute_count as usize {
            let attribute = list.at(i)?;
            attributes.set(attribute.id, &attribute.value)?;
        }
        Ok(attributes)
    }
}

impl Attributes {
    fn set(&mut self, id: u32, value: &AttributeValue) -> Outcome {
        match id {
            COOPERATIVE => self.cooperative = value[0] != 0,
            CLUSTER_DIMENSION => self.cluster = Some([value[0], value[1], value[2]]),
            CLUSTER_POLICY if value[0] > 2 => {
                return fail(Code::INVALID_VALUE, format!("cluster scheduling policy {} is not 0 to 2", value[0]));
            }
            CLUSTER_POLICY => self.policy = value[0],
            PROGRAMMATIC => self.programmatic = value[0] != 0,
            PRIORITY => self.priority = value[0] as i32,
            CARVEOUT if value[0] > 100 => {
                return fail(Code::INVALID_VALUE, format!("carveout {} is not 0 to 100 percent", value[0]));
            }
            CARVEOUT => self.carveout = Some(value[0]),
            PROGRAMMATIC_EVENT | LAUNCH_COMPLETION_EVENT => {
                let what = format!("launch attribute {id}: events that a launch records are not emulated");
                return fail(Code::NOT_SUPPORTED, what);
            }
            DEVICE_UPDATABLE if value[0] != 0 => {
                return fail(Code::NOT_SUPPORTED, "launch attribute 13: nodes that a device updates are not emulated");
            }
            DEVICE_UPDATABLE => {}
            _ if HINTS.contains(&id) => {}
            _ => return fail(Code::INVALID_VALUE, format!("launch attribute {id} is not known")),
        }
        Ok(())
    }

    /// One that a graph's kernel node has, as CUDA lets it be read and written there.
    pub fn of_node(&self, id: u32) -> Outcome<AttributeValue> {
        let mut value = AttributeValue::default();
        match id {
            COOPERATIVE => value[0] = u32::from(self.cooperative),
            CLUSTER_DIMENSION => value[..3].copy_from_slice(&self.cluster.unwrap_or_default()),
            CLUSTER_POLICY => value[0] = self.policy,
            PRIORITY => value[0] = self.priority as u32,
            _ => refuse_for_node(id)?,
        }
        Ok(value)
    }

    pub fn set_of_node(&mut self, id: u32, value: &AttributeValue) -> Outcome {
        match id {
            // Three zeros: as the kernel has it.
            CLUSTER_DIMENSION if value[..3] == [0; 3] => {
                self.cluster = None;
                Ok(())
            }
            COOPERATIVE | CLUSTER_DIMENSION | CLUSTER_POLICY | PRIORITY => self.set(id, value),
            _ => refuse_for_node(id),
        }
    }
}

fn refuse_for_node(id: u32) -> Outcome {
    match id {
        PROGRAMMATIC => {
            let what =
                "attribute 6 is of launches; of a graph's node its edges say what it waits for: cuGraphGetEdges_v2";
            fail(Code::INVALID_VALUE, what)
        }
        _ if HINTS.contains(&id) => fail(Code::NOT_SUPPORTED, format!("attribute {id} of a kernel node is not kept")),
        _ => fail(Code::INVALID_VALUE, format!("attribute {id} is none of a kernel node")),
    }
}
