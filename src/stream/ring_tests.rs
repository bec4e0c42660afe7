//! The ring against a model of it, step by step. (In every order of two threads: `testing/loom`.)

use std::collections::VecDeque;

use super::ring::{Ring, Spares};

const STEPS: usize = 1_000_000;

/// A few numbers after each other, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count
    }
}

/// What a ring should do, in plain words: frames by their numbers.
struct Model {
    waiting: VecDeque<u64>,
    /// How many may wait; of *newest* one, which is replaced.
    room: Option<usize>,
    taken: Vec<u64>,
}

/// Frame numbers in slots, as a stream has frames there.
struct Subject {
    ring: Ring,
    writer: Option<usize>,
    spares: Spares,
    frames: Vec<u64>,
    taken: Vec<usize>,
}

fn random_steps(
    (ring, writer, spares): (Ring, Option<usize>, Spares),
    slots: usize,
    at_once: usize,
    room: Option<usize>,
) {
    let mut random = Random(slots as u64);
    let mut subject = Subject { ring, writer, spares, frames: vec![u64::MAX; slots], taken: Vec::new() };
    let mut model = Model { waiting: VecDeque::new(), room, taken: Vec::new() };
    let [mut pushed, mut done, mut replaced, mut full] = [0u64; 4];
    for step in 0..STEPS {
        match random.below(3) {
            0 => {
                subject.writer = subject.writer.or_else(|| subject.ring.free());
                let has_room = model.room.is_none_or(|room| model.waiting.len() + model.taken.len() < room);
                assert_eq!(subject.writer.is_some(), has_room, "step {step}");
                let Some(slot) = subject.writer else {
                    full += 1;
                    continue;
                };
                subject.frames[slot] = pushed;
                let filled = subject.ring.fill(slot);
                let old = if model.room.is_none() { model.waiting.pop_front() } else { None };
                assert_eq!(filled.is_replaced, old.is_some(), "step {step}");
                let was = filled.next.filter(|_| filled.is_replaced).map(|slot| subject.frames[slot]);
                assert_eq!(was, old, "step {step}: which was replaced");
                replaced += u64::from(old.is_some());
                model.waiting.push_back(pushed);
                subject.writer = filled.next;
                pushed += 1;
            }
            1 if subject.taken.len() < at_once => {
                let slot = subject.ring.take(&mut subject.spares);
                let frame = model.waiting.pop_front();
                assert_eq!(slot.map(|slot| subject.frames[slot]), frame, "step {step}");
                subject.taken.extend(slot);
                model.taken.extend(frame);
            }
            _ if !subject.taken.is_empty() => {
                let at = random.below(subject.taken.len());
                let (slot, frame) = (subject.taken.remove(at), model.taken.remove(at));
                assert_eq!(subject.frames[slot], frame, "step {step}: it was written while it was read");
                subject.ring.give_back(&mut subject.spares, slot);
                done += 1;
            }
            _ => {}
        }
        assert_eq!(subject.ring.has_filled(), !model.waiting.is_empty());
        let in_flight = (model.waiting.len() + model.taken.len()) as u64;
        assert_eq!(pushed, done + replaced + in_flight, "step {step}");
    }
    assert!(pushed > 100_000 && done > 100_000, "{pushed} {done} {replaced} {full}");
    assert_eq!(subject.ring.end(), model.waiting.len());
    assert_eq!((subject.ring.left_behind(), subject.ring.take(&mut subject.spares)), (0, None));
}

#[test]
fn a_million_random_steps_go_as_they_should() {
    for at_once in [1, 2, 3] {
        random_steps(Ring::newest(at_once), at_once + 2, at_once, None);
        for queue in [1, 2, 5] {
            let slots = queue + at_once;
            random_steps(Ring::every(slots), slots, at_once, Some(slots));
        }
    }
}

#[test]
fn what_is_filled_after_the_end_is_taken_back() {
    for (ring, mut writer, _) in [Ring::newest(1), Ring::every(2)] {
        assert_eq!(ring.end(), 0);
        writer = writer.or_else(|| ring.free());
        ring.fill(writer.unwrap());
        assert_eq!((ring.left_behind(), ring.left_behind()), (1, 0));
    }
}
