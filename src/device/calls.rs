//! What a device asks of its driver.

/// What a device asked of its driver since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Of device memory and page-locked memory.
    pub allocations: u64,
    /// Host to device.
    pub copies_in: u64,
    /// Device to host.
    pub copies_out: u64,
    /// Within the device's memory.
    pub copies_within: u64,
    /// Of kernels one by one.
    pub launches: u64,
    /// Of these, kernels that may begin before the kernel before them has ended.
    pub overlapping: u64,
    /// Of graphs: whole passes.
    pub graph_launches: u64,
    /// Nodes of the graph that was launched last; 0 where none was.
    pub graph_nodes: usize,
    /// Its edges that let a kernel begin before the one before it has ended.
    pub programmatic_edges: usize,
    /// Of events, and waits of one stream for another's.
    pub records: u64,
    pub waits: u64,
    /// Waits of the host for the device.
    pub synchronisations: u64,
}
