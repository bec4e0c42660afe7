//! Accesses of a warp in one line, and memories that are ready for them.

use vgpu_cuda::counts::Counts;
use vgpu_cuda::fault::{BadAccess, Check};
use vgpu_cuda::ir::{AtomOp, Order, Scope, Ty};
use vgpu_cuda::mem::{BlockMemory, GlobalMemory, Request, SHARED_START, SharedMemory, Words};

pub const ALL: u32 = u32::MAX;
pub type Done = Result<(), BadAccess>;

pub fn lanes(f: impl Fn(u64) -> u64) -> [u64; 32] {
    std::array::from_fn(|lane| f(lane as u64))
}

pub fn words(f: impl Fn(usize, usize) -> u32) -> Words {
    let mut words = Words::ZERO;
    for (w, bits) in words.bits.iter_mut().enumerate() {
        for (lane, value) in bits.iter_mut().enumerate() {
            *value = f(w, lane);
        }
    }
    words
}

pub fn load(block: &BlockMemory<'_>, addresses: &[u64; 32], bytes: usize, mask: u32) -> Result<Words, BadAccess> {
    load_as(block, addresses, bytes, mask, Order::Weak)
}

pub fn load_as(
    b: &BlockMemory<'_>,
    addresses: &[u64; 32],
    bytes: usize,
    mask: u32,
    order: Order,
) -> Result<Words, BadAccess> {
    let mut into = Words::ZERO;
    b.load(&Request { addresses, mask, bytes }, order, &mut into, &mut Counts::default())?;
    Ok(into)
}

pub fn store(block: &BlockMemory<'_>, addresses: &[u64; 32], bytes: usize, mask: u32, from: &Words) -> Done {
    store_as(block, addresses, bytes, mask, from, Order::Weak)
}

pub fn store_as(
    b: &BlockMemory<'_>,
    addresses: &[u64; 32],
    bytes: usize,
    mask: u32,
    from: &Words,
    order: Order,
) -> Done {
    b.store(&Request { addresses, mask, bytes }, order, from, &mut Counts::default())
}

pub fn atomic(b: &BlockMemory<'_>, address: u64, op: AtomOp, value: u32) -> Result<u32, BadAccess> {
    let mut old = Words::ZERO;
    let addresses = [address; 32];
    let r = Request { addresses: &addresses, mask: 1, bytes: 4 };
    b.atomic(
        &r,
        Order::Relaxed(Scope::Gpu),
        op,
        Ty::U32,
        &words(|_, _| value),
        None,
        false,
        &mut old,
        &mut Counts::default(),
    )?;
    Ok(old.bits[0][0])
}

pub fn check_of<T>(result: Result<T, BadAccess>) -> Check {
    match result {
        Ok(_) => panic!("no report"),
        Err(bad) => bad.check,
    }
}

/// Memory with one allocation, all zeros.
pub fn zeros(bytes: usize) -> (GlobalMemory, u64) {
    let memory = GlobalMemory::new(1 << 30);
    let at = memory.alloc(bytes).unwrap();
    memory.fill(at, &[0], bytes).unwrap();
    (memory, at)
}

pub struct Shared {
    pub memory: SharedMemory,
    pub counts: Counts,
}

impl Shared {
    pub fn new(bytes: usize, warps: usize) -> Shared {
        Shared { memory: SharedMemory::new(bytes, warps, false), counts: Counts::default() }
    }

    pub fn load(&mut self, warp: usize, bytes: usize, mask: u32, f: impl Fn(u64) -> u64) -> Result<Words, BadAccess> {
        let (addresses, mut into) = (lanes(|l| SHARED_START.wrapping_add(f(l))), Words::ZERO);
        let r = Request { addresses: &addresses, mask, bytes };
        self.memory.load(warp, &r, Order::Weak, &mut into, &mut self.counts)?;
        Ok(into)
    }

    pub fn store(&mut self, warp: usize, bytes: usize, mask: u32, f: impl Fn(u64) -> u64, from: &Words) -> Done {
        let addresses = lanes(|l| SHARED_START + f(l));
        self.memory.store(warp, &Request { addresses: &addresses, mask, bytes }, Order::Weak, from, &mut self.counts)
    }

    pub fn atomic(&mut self, warp: usize, at: u64) -> Result<u32, BadAccess> {
        let (addresses, mut old) = ([SHARED_START + at; 32], Words::ZERO);
        let r = Request { addresses: &addresses, mask: 1, bytes: 4 };
        let one = words(|_, _| 1);
        self.memory.atomic(warp, &r, AtomOp::Add, Ty::U32, &one, None, false, &mut old, &mut self.counts)?;
        Ok(old.bits[0][0])
    }

    /// Defines all bytes (value of a word: its number) and orders that before everything.
    pub fn filled(bytes: usize, warps: usize) -> Shared {
        let mut shared = Shared::new(bytes, warps);
        for first in (0..bytes as u64).step_by(128) {
            let mask = ALL >> (32 - (bytes as u64 - first).min(128) / 4);
            shared.store(0, 4, mask, |l| first + 4 * l, &words(|_, l| first as u32 / 4 + l as u32)).unwrap();
        }
        shared.sync();
        shared
    }

    pub fn sync(&mut self) {
        self.memory.barrier(0, u64::MAX);
    }

    pub fn sync_warp(&mut self, warp: usize) {
        self.memory.warp_barrier(warp, ALL, true);
    }

    pub fn ldmatrix(
        &mut self,
        warp: usize,
        count: usize,
        transpose: bool,
        f: impl Fn(u64) -> u64,
    ) -> Result<Words, BadAccess> {
        let mut into = Words::ZERO;
        let addresses = lanes(|l| SHARED_START + f(l));
        self.memory.ldmatrix(warp, &addresses, count, transpose, &mut into, &mut self.counts)?;
        Ok(into)
    }
}
