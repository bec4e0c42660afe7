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
    /// Always 0: cluster registers of a grid without clusters, and what a driver may leave to kernels; `%cluster_nctaid` is 1.
    Zero,
    One,
    /// Bytes of shared memory that the system keeps, which lie before the block's own.
    ReservedSmemSize,
}
