//! Special registers.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    TidX,
    TidY,
    TidZ,
    NtidX,
    NtidY,
    NtidZ,
    CtaidX,
    CtaidY,
    CtaidZ,
    NctaidX,
    NctaidY,
    NctaidZ,
    LaneId,
    WarpId,
    NwarpId,
    SmId,
    NsmId,
    LanemaskEq,
    LanemaskLt,
    LanemaskLe,
    LanemaskGt,
    LanemaskGe,
    Clock,
    /// 64 bits
    Clock64,
    /// 64 bits
    GlobalTimer,
    DynamicSmemSize,
    TotalSmemSize,
    /// That of the block and what the system keeps.
    AggregateSmemSize,
    /// `%cluster_ctarank`, `%cluster_nctarank`
    ClusterCtaRank,
    ClusterNctaRank,
    /// The block's place in its cluster, and how many blocks that has: x, y, z as 0, 1, 2.
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    /// The cluster's place in the grid, and how many clusters that has.
    Clusterid(u8),
    Nclusterid(u8),
    /// 1 where the launch has clusters.
    IsExplicitCluster,
    /// Always 0.
    Zero,
    /// `%envreg<n>`: what the driver tells kernels.
    EnvReg(u8),
    /// Bytes of shared memory that the system keeps, which lie before the block's own.
    ReservedSmemSize,
}
