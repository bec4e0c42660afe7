//! Where each buffer lies in the one arena: buffers whose lives overlap never share a byte.

use super::Planned;

/// Every offset is a multiple of this: a cache line on the CPU, a full memory transaction on a GPU.
const ALIGN: usize = 256;

/// Fills in the offsets, largest buffer first, each at the lowest place that is free for its whole life (greedy by
/// size, as in Pisarchyk & Lee, arXiv 2001.03288). Returns the arena's bytes.
pub fn place(buffers: &mut [Planned]) -> usize {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].bytes), i));
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    let mut arena = 0;
    for i in order {
        let offset = lowest_free(buffers, &placed, i);
        buffers[i].offset = offset;
        arena = arena.max(offset + buffers[i].bytes.next_multiple_of(ALIGN));
        let at = placed.partition_point(|&j| buffers[j].offset <= offset);
        placed.insert(at, i);
    }
    arena
}

/// `placed` is sorted by offset.
fn lowest_free(buffers: &[Planned], placed: &[usize], i: usize) -> usize {
    let new = &buffers[i];
    let mut offset = 0;
    for &j in placed {
        let old = &buffers[j];
        let together = old.first <= new.last && new.first <= old.last;
        if !together {
            continue;
        }
        if offset + new.bytes <= old.offset {
            break;
        }
        offset = offset.max((old.offset + old.bytes).next_multiple_of(ALIGN));
    }
    offset
}

/// The lowest place of so many bytes of an arena that no buffer has during a step.
pub fn gap(buffers: &[Planned], arena: usize, step: usize, bytes: usize) -> Option<usize> {
    let mut live: Vec<&Planned> = buffers.iter().filter(|b| b.first <= step && step <= b.last).collect();
    live.sort_by_key(|b| b.offset);
    let mut offset = 0;
    for buffer in live {
        if offset + bytes <= buffer.offset {
            break;
        }
        offset = offset.max((buffer.offset + buffer.bytes).next_multiple_of(ALIGN));
    }
    (offset + bytes <= arena).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Element;

    #[test]
    fn lives_that_overlap_never_share_memory() {
        let mut seed = 1u64;
        let mut next = |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        for _ in 0..50 {
            let mut buffers: Vec<Planned> = (0..40)
                .map(|_| {
                    let first = next(60);
                    let bytes = 1 + next(5000);
                    let last = first + next(10);
                    Planned { name: "", shape: [1, 1, 1, bytes], element: Element::U8, bytes, offset: 0, first, last }
                })
                .collect();
            let arena = place(&mut buffers);
            for step in 0..70 {
                for bytes in [1, 700, 9000] {
                    let Some(offset) = gap(&buffers, arena, step, bytes) else { continue };
                    assert!(offset % ALIGN == 0 && offset + bytes <= arena);
                    let live = buffers.iter().filter(|b| b.first <= step && step <= b.last);
                    let apart = |b: &Planned| offset + bytes <= b.offset || b.offset + b.bytes <= offset;
                    assert!(live.clone().all(apart), "{bytes} at {offset} in step {step}");
                }
                assert_eq!(gap(&buffers, arena, step, arena + 1), None);
            }
            assert!((0..70).any(|step| gap(&buffers, arena, step, 700).is_some()), "there is room at some time");
            let live = |t: usize| buffers.iter().filter(move |b| b.first <= t && t <= b.last);
            let least = (0..70).map(|t| live(t).map(|b| b.bytes).sum::<usize>()).max().unwrap();
            assert!(arena >= least && arena <= 2 * least + 40 * ALIGN, "arena {arena}, least {least}");
            for (i, a) in buffers.iter().enumerate() {
                assert!(a.offset % ALIGN == 0 && a.offset + a.bytes <= arena);
                for b in &buffers[..i] {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
                    assert!(!together || apart, "{a:?} {b:?}");
                }
            }
        }
    }
}
