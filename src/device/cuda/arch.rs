//! What GPUs of each compute capability can do, as far as the driver does not say it: a row each.

/// A compute capability. Rates are a clock and multiprocessor.
#[derive(Clone, Copy, Debug)]
pub struct Arch {
    pub capability: (u32, u32),
    /// Dense float16 products with float32 sums, floating operations (NVIDIA's architecture white papers; GeForce boards).
    pub tensor_flop: u32,
    /// The same of professional and server boards, where GeForce boards sum in float32 at half the rate.
    pub professional_flop: u32,
    /// What of it mma.sync reaches: the rest is for newer instructions alone. 0.6 of Hopper's wgmma is an estimate, and that
    /// Blackwell's tcgen05 leaves mma.sync at Hopper's rate another.
    pub mma_sync_share: f64,
    /// Bytes from the L2 cache where all multiprocessors ask for them (about; from published measurements).
    pub l2_bytes: f64,
    /// The same of bulk copies, which take no threads' time.
    pub bulk_l2_bytes: f64,
    /// Of a multiprocessor: bytes of shared memory, threads, blocks.
    pub shared: u32,
    pub threads: u32,
    pub blocks: u32,
    /// A kernel may begin before the one before it in its stream has ended (programmatic dependent launches).
    pub overlaps: bool,
    /// Products of warpgroups (wgmma), which kernels/sm90 are for: no other architecture has them.
    pub warpgroups: bool,
}

/// 32-bit registers of a multiprocessor.
const REGISTERS: u32 = 65_536;
/// Bytes that CUDA takes of shared memory for itself, for each block.
pub const RESERVED_SHARED: u32 = 1024;

const GA100: Arch = Arch {
    capability: (8, 0),
    tensor_flop: 2048,
    professional_flop: 2048,
    mma_sync_share: 1.0,
    l2_bytes: 32.0,
    bulk_l2_bytes: 32.0,
    shared: 164 << 10,
    threads: 2048,
    blocks: 32,
    overlaps: false,
    warpgroups: false,
};
const GA10X: Arch = Arch {
    capability: (8, 6),
    tensor_flop: 512,
    professional_flop: 1024,
    mma_sync_share: 1.0,
    l2_bytes: 16.0,
    bulk_l2_bytes: 16.0,
    shared: 100 << 10,
    threads: 1536,
    blocks: 16,
    overlaps: false,
    warpgroups: false,
};
const ORIN: Arch = Arch { capability: (8, 7), threads: 1536, blocks: 16, ..GA100 };
const ADA: Arch = Arch { capability: (8, 9), blocks: 24, ..GA10X };
const HOPPER: Arch = Arch {
    capability: (9, 0),
    tensor_flop: 4096,
    professional_flop: 4096,
    mma_sync_share: 0.6,
    l2_bytes: 22.0,
    bulk_l2_bytes: 30.0,
    shared: 228 << 10,
    threads: 2048,
    blocks: 32,
    overlaps: true,
    warpgroups: true,
};
const BLACKWELL: Arch = Arch {
    capability: (10, 0),
    tensor_flop: 8192,
    professional_flop: 8192,
    mma_sync_share: 0.3,
    warpgroups: false,
    ..HOPPER
};
const BLACKWELL_RTX: Arch = Arch { capability: (12, 0), overlaps: true, ..ADA };

const ALL: [Arch; 7] = [GA100, GA10X, ORIN, ADA, HOPPER, BLACKWELL, BLACKWELL_RTX];

impl Arch {
    pub fn of(capability: (u32, u32)) -> Option<&'static Arch> {
        ALL.iter().find(|arch| arch.capability == capability)
    }

    /// Of a capability without a row, the last one of its major version, or of all: for choices that must be made, not for claims.
    pub fn like(capability: (u32, u32)) -> &'static Arch {
        let same_major = ALL.iter().rev().find(|arch| arch.capability.0 == capability.0);
        Arch::of(capability).or(same_major).unwrap_or(&ALL[ALL.len() - 1])
    }

    /// Blocks that a multiprocessor holds of a kernel of so many threads a block, registers a thread and bytes of shared memory a
    /// block.
    pub fn resident(&self, threads: u32, registers: u32, shared: u32) -> u32 {
        let warps = threads.div_ceil(32);
        // Registers are given out to warps, 256 at a time.
        let registers = (registers.max(1) * 32).next_multiple_of(256) * warps;
        let by_registers = REGISTERS / registers.max(1);
        let by_shared = self.shared / (shared + RESERVED_SHARED);
        let by_threads = self.threads / (warps * 32).max(1);
        by_registers.min(by_shared).min(by_threads).min(self.blocks).max(1)
    }

    /// Multiply-adds of the newest instructions for products.
    pub fn multiply_adds(&self) -> f64 {
        f64::from(self.tensor_flop / 2)
    }

    /// Floating operations of mma.sync with float32 sums.
    pub fn mma_sync_flop(&self) -> f64 {
        (self.mma_sync_share * f64::from(self.tensor_flop)).round()
    }

    /// The same as whole multiply-adds.
    pub fn mma_sync_multiply_adds(&self) -> f64 {
        (self.mma_sync_share * f64::from(self.tensor_flop / 2)).floor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_row_is_taken_for_the_last_of_its_kind() {
        for (capability, like) in [((9, 0), (9, 0)), ((8, 8), (8, 9)), ((10, 3), (10, 0)), ((13, 0), (12, 0))] {
            assert_eq!(Arch::like(capability).capability, like, "{capability:?}");
        }
        assert!(Arch::of((10, 3)).is_none());
    }

    #[test]
    fn mma_sync_has_no_more_on_blackwell_than_on_hopper() {
        assert_eq!([HOPPER, BLACKWELL].map(|arch| arch.mma_sync_flop()), [2458.0; 2]);
        assert_eq!([HOPPER, BLACKWELL].map(|arch| arch.mma_sync_multiply_adds()), [1228.0; 2]);
        assert_eq!([ORIN, ADA].map(|arch| arch.mma_sync_multiply_adds()), [1024.0, 256.0]);
    }
}
