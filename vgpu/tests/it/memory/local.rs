//! Local memory.

use vgpu_cuda::fault::Check;
use vgpu_cuda::mem::{LOCAL_START, LocalMemory, Request, Words};

use super::fixtures::*;

#[test]
fn local_memory_is_each_lanes_own() {
    let mut local = LocalMemory::new(40);
    let at = |f: &dyn Fn(u64) -> u64| lanes(|l| LOCAL_START + f(l));
    let a = at(&|_| 32);
    let r = Request { addresses: &a, mask: ALL, bytes: 8 };
    local.store(&r, &words(|w, l| (10 * l + w) as u32)).unwrap();
    let mut got = Words::ZERO;
    local.load(&r, &mut got).unwrap();
    assert_eq!((got.bits[0][7], got.bits[1][7], got.undef), (70, 71, [0; 4]));
    let a = at(&|_| 34);
    local.load(&Request { addresses: &a, mask: ALL, bytes: 2 }, &mut got).unwrap();
    assert_eq!((got.bits[0][7], got.undef[0]), (0, 0));
    let a = at(&|l| if l == 3 { 28 } else { 32 });
    local.load(&Request { addresses: &a, mask: ALL, bytes: 4 }, &mut got).unwrap();
    assert_eq!(got.undef[0], 1 << 3 | 1 << 35);
    let a = at(&|l| if l == 3 { 40 } else { 32 });
    let bad = local.load(&Request { addresses: &a, mask: ALL, bytes: 4 }, &mut got).unwrap_err();
    assert_eq!((bad.check, bad.lanes, bad.address), (Check::OutOfBounds, 8, Some(LOCAL_START + 40)));
    let a = at(&|_| 33);
    assert_eq!(check_of(local.load(&Request { addresses: &a, mask: ALL, bytes: 2 }, &mut got)), Check::Misaligned);
    local.reset();
    let a = at(&|_| 32);
    local.load(&Request { addresses: &a, mask: ALL, bytes: 8 }, &mut got).unwrap();
    assert_eq!(got.undef[..2], [u64::MAX; 2]);
}
