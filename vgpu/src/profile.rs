//! The GPUs that can be emulated: limits and the tensor-core model. Facts from NVIDIA's programming guide, appendix
//! "Compute Capabilities", and the boards' data sheets.

/// How a tensor core adds: products in blocks of `group`, cut to `fraction_bits` below the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorCore {
    /// Products of 16-bit factors that are added at once.
    pub group: usize,
    /// Bits of the terms' fractions.
    pub fraction_bits: u32,
    /// Bits that a float32 result keeps of its fraction.
    pub result_bits: u32,
}

/// How `mma.sync` multiplies 8-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EightBit {
    /// By the tensor cores.
    Native(TensorCore),
    /// As two products of f16: k mod 4 < 2 first, then the others; the addend last, rounded to nearest.
    ByHalves,
}

/// A GPU, as far as its driver tells of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// The value of `VGPU_DEVICE`.
    pub name: &'static str,
    /// What cuDeviceGetName answers.
    pub device_name: &'static str,
    /// Compute capability, before the point.
    pub major: u32,
    /// Compute capability, behind the point.
    pub minor: u32,
    /// How many it has.
    pub multiprocessors: u32,
    /// Multiprocessors of each GPC, whose blocks a cluster's are; empty before compute capability 9.0.
    pub gpcs: &'static [u32],
    /// Of device memory.
    pub memory_bytes: u64,
    /// Bytes of shared memory that a block has without asking.
    pub shared_per_block: usize,
    /// Bytes that it has when it asks.
    pub shared_per_block_optin: usize,
    /// Bytes of a multiprocessor's shared memory.
    pub shared_per_multiprocessor: usize,
    /// 32-bit registers of a block, and of a multiprocessor.
    pub registers_per_block: u32,
    /// Threads that a multiprocessor holds at once.
    pub max_threads_per_multiprocessor: u32,
    /// Blocks that it holds at once.
    pub max_blocks_per_multiprocessor: u32,
    /// Of the L2 cache.
    pub l2_bytes: u32,
    /// Of the multiprocessors.
    pub clock_khz: u32,
    /// Of the memory, as the driver tells it.
    pub memory_clock_khz: u32,
    /// Width of the memory's bus.
    pub memory_bus_bits: u32,
    /// Host and device share memory.
    pub integrated: bool,
    /// The newest CUDA that its (imagined) driver knows: 12040 for 12.4; newer PTX is refused.
    pub driver_version: u32,
    /// The newest `.version` of PTX that this driver takes.
    pub ptx_version: (u32, u32),
    /// How its tensor cores add.
    pub tensor_core: TensorCore,
    /// How mma.sync multiplies 8-bit floats.
    pub mma_8_bit: EightBit,
    /// How tensor cores add products of 8-bit floats by wgmma.
    pub wgmma_8_bit: TensorCore,
}

const AMPERE: TensorCore = TensorCore { group: 8, fraction_bits: 24, result_bits: 23 };
const ADA_8_BIT: TensorCore = TensorCore { group: 8, fraction_bits: 13, result_bits: 13 };
const HOPPER: TensorCore = TensorCore { group: 16, fraction_bits: 25, result_bits: 23 };
/// wgmma of 8-bit floats: MMA-Sim and the public captures of H100 and H200 agree.
const HOPPER_8_BIT: TensorCore = TensorCore { group: 16, fraction_bits: 13, result_bits: 13 };
/// mma.sync of 8-bit floats: MMA-Sim has one sum of 25 bits; the captures (H100, H200, B200) say this, in every bit.
const HOPPER_MMA_8_BIT: EightBit = EightBit::ByHalves;

/// 8 GPCs of at most 9 pairs of multiprocessors (NVIDIA, "Hopper Architecture In-Depth"), 132 of them in all. Which are missing
/// differs from board to board; this is one where clusters of 8 blocks reach 112 multiprocessors and clusters of 4 reach 120,
/// as CUTLASS issue 1921 reports of grids (4, 28) and (60, 2), and pairs reach all.
const H100_GPCS: [u32; 8] = [18, 18, 18, 18, 16, 16, 14, 14];

const A100: Profile = Profile {
    name: "a100",
    device_name: "Virtual GPU (A100)",
    major: 8,
    minor: 0,
    multiprocessors: 108,
    gpcs: &[],
    memory_bytes: 40 << 30,
    shared_per_block: 48 << 10,
    shared_per_block_optin: 163 << 10,
    shared_per_multiprocessor: 164 << 10,
    registers_per_block: 65536,
    max_threads_per_multiprocessor: 2048,
    max_blocks_per_multiprocessor: 32,
    l2_bytes: 40 << 20,
    clock_khz: 1_410_000,
    memory_clock_khz: 1_215_000,
    memory_bus_bits: 5120,
    integrated: false,
    driver_version: 13000,
    ptx_version: (9, 0),
    tensor_core: AMPERE,
    mma_8_bit: EightBit::Native(ADA_8_BIT),
    wgmma_8_bit: HOPPER_8_BIT,
};

const H100: Profile = Profile {
    name: "h100",
    device_name: "Virtual GPU (H100)",
    major: 9,
    minor: 0,
    multiprocessors: 132,
    gpcs: &H100_GPCS,
    memory_bytes: 80 << 30,
    shared_per_block_optin: 227 << 10,
    shared_per_multiprocessor: 228 << 10,
    l2_bytes: 50 << 20,
    clock_khz: 1_830_000,
    memory_clock_khz: 2_619_000,
    tensor_core: HOPPER,
    mma_8_bit: HOPPER_MMA_8_BIT,
    ..A100
};

const RTX4090: Profile = Profile {
    name: "rtx4090",
    device_name: "Virtual GPU (RTX 4090)",
    major: 8,
    minor: 9,
    multiprocessors: 128,
    memory_bytes: 24 << 30,
    shared_per_block_optin: 99 << 10,
    shared_per_multiprocessor: 100 << 10,
    max_threads_per_multiprocessor: 1536,
    max_blocks_per_multiprocessor: 24,
    l2_bytes: 72 << 20,
    clock_khz: 2_520_000,
    memory_clock_khz: 10_501_000,
    memory_bus_bits: 384,
    ..A100
};

const ORIN: Profile = Profile {
    name: "orin",
    device_name: "Virtual GPU (AGX Orin)",
    major: 8,
    minor: 7,
    multiprocessors: 16,
    memory_bytes: 32 << 30,
    max_threads_per_multiprocessor: 1536,
    max_blocks_per_multiprocessor: 16,
    l2_bytes: 4 << 20,
    clock_khz: 1_300_000,
    memory_clock_khz: 3_199_000,
    memory_bus_bits: 256,
    integrated: true,
    // JetPack 6: CUDA 12.6.
    driver_version: 12060,
    ptx_version: (8, 5),
    ..A100
};

const BLACKWELL: Profile = Profile {
    name: "blackwell",
    device_name: "Virtual GPU (sm_120)",
    major: 12,
    minor: 0,
    multiprocessors: 170,
    // Assumed: 11 GPCs of at most 16.
    gpcs: &[16, 16, 16, 16, 16, 16, 16, 16, 14, 14, 14],
    memory_bytes: 32 << 30,
    shared_per_block_optin: 99 << 10,
    shared_per_multiprocessor: 100 << 10,
    max_threads_per_multiprocessor: 1536,
    max_blocks_per_multiprocessor: 24,
    l2_bytes: 96 << 20,
    clock_khz: 2_407_000,
    memory_clock_khz: 14_001_000,
    memory_bus_bits: 512,
    // Captured of a B200 alone, which adds as Hopper does.
    tensor_core: HOPPER,
    mma_8_bit: HOPPER_MMA_8_BIT,
    ..A100
};

/// All of them.
pub const PROFILES: [Profile; 5] = [A100, H100, RTX4090, ORIN, BLACKWELL];

impl Profile {
    /// The one that `VGPU_DEVICE` calls so.
    pub fn named(name: &str) -> Option<Profile> {
        PROFILES.into_iter().find(|p| p.name == name)
    }

    /// Bytes of shared memory that the system keeps for itself in every block: 1 KiB since compute capability 8.0.
    pub const SHARED_RESERVED: usize = 1024;
}
