//! Clusters: what a launch's may be, and how many of them the device holds at once.

use super::attributes::{Attributes, LaunchConfig};
use super::boundary::{In, Out};
use super::error::{Code, Outcome, fail};
use super::function::Function;
use super::handle::Handle;
use super::shape::Shape;
use super::{Machine, driver_functions};
use crate::profile::Profile;

/// The largest that every device of compute capability 9.0 runs, and the largest where the program insists.
const PORTABLE: u32 = 8;
const NON_PORTABLE: u32 = 16;

/// Without clusters, each block is one of its own.
const NONE: [u32; 3] = [1, 1, 1];

fn misconfigured<T>(what: String) -> Outcome<T> {
    fail(Code::INVALID_CLUSTER_SIZE, what)
}

impl Profile {
    fn has_clusters(&self) -> bool {
        self.major >= 9
    }

    /// Clusters of `blocks` blocks that are on the device together. All blocks of one lie in one GPC.
    fn active_clusters(&self, function: &Function, shape: &Shape, blocks: u32) -> u32 {
        let dynamic_shared = shape.dynamic_shared as usize;
        let each = self.blocks_per_multiprocessor(function.kernel(), shape.threads(), dynamic_shared);
        self.gpcs.iter().map(|multiprocessors| multiprocessors * each / blocks.max(1)).sum()
    }
}

impl Function {
    /// The most blocks of a cluster of this kernel, whatever the launch says.
    fn most_blocks(&self) -> u32 {
        let most = if self.clusters.non_portable { NON_PORTABLE } else { PORTABLE };
        self.kernel().max_cluster.map_or(most, |own| own.min(most))
    }

    /// What the launch asks for, or what the kernel says: its code (`.reqnctapercluster`) or its attributes.
    fn asked_cluster(&self, attributes: &Attributes) -> Outcome<[u32; 3]> {
        let name = &self.kernel().name;
        match (attributes.cluster, self.required_cluster()) {
            (Some(asked), Some(required)) if asked != required => {
                misconfigured(format!("{name} with clusters of {asked:?}: it is for exactly {required:?}"))
            }
            (Some(cluster), _) | (None, Some(cluster)) => Ok(cluster),
            (None, None) if self.must_be_given_clusters() => {
                misconfigured(format!("{name} without a cluster dimension: the launch must say it"))
            }
            (None, None) => Ok(NONE),
        }
    }
}

/// The cluster of a launch.
pub fn resolve(function: &Function, profile: &Profile, shape: &Shape, attributes: &Attributes) -> Outcome<[u32; 3]> {
    let cluster = function.asked_cluster(attributes)?;
    if cluster == NONE {
        return Ok(cluster);
    }
    let name = &function.kernel().name;
    if !profile.has_clusters() {
        let (major, minor) = (profile.major, profile.minor);
        let what = format!(
            "{name} with clusters of {cluster:?}: they need compute capability 9.0, the device has {major}.{minor}"
        );
        return fail(Code::NOT_SUPPORTED, what);
    }
    if cluster.contains(&0) || cluster.iter().zip(shape.grid).any(|(&blocks, grid)| grid % blocks != 0) {
        return misconfigured(format!(
            "{name} with clusters of {cluster:?}: they do not divide its grid {:?}",
            shape.grid
        ));
    }
    let blocks = cluster.iter().map(|&blocks| u64::from(blocks)).product::<u64>();
    let most = function.most_blocks();
    if blocks > u64::from(most) {
        return misconfigured(format!(
            "{name} with clusters of {blocks} blocks: the most are {most} (8; 16 with \
             CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED; less where the kernel says so)"
        ));
    }
    if profile.active_clusters(function, shape, blocks as u32) == 0 {
        return misconfigured(format!("{name} with clusters of {blocks} blocks: not even one fits a GPC"));
    }
    Ok(cluster)
}

/// Blocks of such clusters that the device holds at once.
pub fn resident_blocks(function: &Function, profile: &Profile, shape: &Shape, cluster: [u32; 3]) -> u64 {
    if cluster == NONE {
        let dynamic_shared = shape.dynamic_shared as usize;
        let each = profile.blocks_per_multiprocessor(function.kernel(), shape.threads(), dynamic_shared);
        return u64::from(each) * u64::from(profile.multiprocessors);
    }
    let blocks = cluster.iter().product();
    u64::from(profile.active_clusters(function, shape, blocks)) * u64::from(blocks)
}

impl Machine {
    fn active_clusters(&self, handle: Handle<Function>, config: &LaunchConfig) -> Outcome<i32> {
        let function = self.functions.get(handle)?;
        let profile = &self.device_of(function.context)?.profile;
        let (shape, attributes) = (config.shape(), config.attributes()?);
        shape.check(function.kernel(), function)?;
        if attributes.cluster.is_none() && function.required_cluster().is_none() {
            return misconfigured(format!("{}: no cluster dimension is given", function.kernel().name));
        }
        let cluster = resolve(function, profile, &shape, &attributes)?;
        Ok(profile.active_clusters(function, &shape, cluster.iter().product()) as i32)
    }

    fn largest_cluster(&self, handle: Handle<Function>, config: &LaunchConfig) -> Outcome<i32> {
        let function = self.functions.get(handle)?;
        let profile = &self.device_of(function.context)?.profile;
        let shape = config.shape();
        shape.check(function.kernel(), function)?;
        if let Some(required) = function.required_cluster() {
            return Ok(required.iter().fold(1u32, |blocks, &size| blocks.saturating_mul(size)) as i32);
        }
        if !profile.has_clusters() {
            return Ok(1);
        }
        let fits = |&blocks: &u32| profile.active_clusters(function, &shape, blocks) > 0;
        Ok((1..=function.most_blocks()).rev().find(fits).unwrap_or(0) as i32)
    }
}

driver_functions! {
    table table;

    /// Clusters of the configuration's size that are on the device together.
    fn cuOccupancyMaxActiveClusters(
        machine,
        clusters: Out<i32>,
        function: Handle<Function>,
        config: In<LaunchConfig>,
    ) {
        clusters.write(machine.active_clusters(function, &config.read()?)?)
    }

    /// Blocks of the largest cluster that fits the device.
    fn cuOccupancyMaxPotentialClusterSize(
        machine,
        blocks: Out<i32>,
        function: Handle<Function>,
        config: In<LaunchConfig>,
    ) {
        blocks.write(machine.largest_cluster(function, &config.read()?)?)
    }
}
