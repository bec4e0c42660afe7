//! Lives → places: registers whose lives do not meet share slots. Linear scan in the order of first positions, taking
//! the lowest place that is free for the whole life, its holes used by others.

use super::liveness::Life;

/// A place for each variable, and how many there are.
pub struct Assignment {
    pub places: Vec<u16>,
    pub count: usize,
}

/// `widths[v]` neighbouring places for each variable; `None` if more than `most` are needed. A variable that never lives
/// gets place 0.
pub fn assign(lives: &[Life], widths: impl Fn(usize) -> usize, most: usize) -> Option<Assignment> {
    let mut order: Vec<u32> = (0..lives.len() as u32).filter(|&v| !lives[v as usize].is_empty()).collect();
    order.sort_by_key(|&v| (lives[v as usize][0].0, v));
    let mut places = vec![0u16; lives.len()];
    // Stretches of each place that end after the scan's position.
    let mut taken: Vec<Life> = Vec::new();
    // Until when each place is known to be taken: most are, and are passed over by this number alone.
    let mut busy: Vec<u32> = Vec::new();
    for variable in order {
        let variable = variable as usize;
        let life = &lives[variable];
        let width = widths(variable);
        let mut place = 0;
        let mut free = 0;
        while free < width {
            if place + free >= taken.len() {
                taken.push(Life::new());
                busy.push(0);
            }
            let at = place + free;
            if busy[at] <= life[0].0 && is_free(&mut taken[at], life) {
                free += 1;
            } else {
                place += free + 1;
                free = 0;
            }
        }
        if place + width > most {
            return None;
        }
        for at in place..place + width {
            taken[at].extend_from_slice(life);
            busy[at] = life[0].1;
        }
        places[variable] = place as u16;
    }
    Some(Assignment { places, count: taken.len() })
}

/// Whether no stretch of `taken` meets `life`; forgets those that ended before it begins.
fn is_free(taken: &mut Life, life: &Life) -> bool {
    let Some(&(start, _)) = life.first() else {
        return true;
    };
    taken.retain(|&(_, end)| end > start);
    taken.iter().all(|&(from, to)| {
        let next = life.partition_point(|&(_, end)| end <= from);
        life.get(next).is_none_or(|&(start, _)| start >= to)
    })
}

/// The most units alive at once, `width(v)` for variable v.
pub fn most_alive(lives: &[Life], width: impl Fn(usize) -> usize, positions: usize) -> usize {
    let mut change = vec![0i64; positions + 2];
    for (variable, life) in lives.iter().enumerate() {
        for &(start, end) in life {
            let units = width(variable) as i64;
            if let Some(at) = change.get_mut(start as usize) {
                *at += units;
            }
            if let Some(at) = change.get_mut(end as usize) {
                *at -= units;
            }
        }
    }
    let mut alive = 0;
    change
        .iter()
        .map(|step| {
            alive += step;
            alive
        })
        .max()
        .unwrap_or(0)
        .max(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(lives: &[Life], widths: &[usize]) -> (Vec<u16>, usize) {
        let assignment = assign(lives, |v| widths[v], 100).unwrap();
        (assignment.places, assignment.count)
    }

    #[test]
    fn lives_that_do_not_meet_share_a_place() {
        let lives = [vec![(0, 4)], vec![(2, 6)], vec![(4, 8)]];
        assert_eq!(places(&lives, &[1, 1, 1]), (vec![0, 1, 0], 2));
    }

    #[test]
    fn a_hole_is_used() {
        let lives = [vec![(0, 4), (20, 24)], vec![(5, 18)], vec![(6, 21)]];
        assert_eq!(places(&lives, &[1, 1, 1]), (vec![0, 0, 1], 2));
    }

    #[test]
    fn wide_values_take_neighbours() {
        let lives = [vec![(0, 10)], vec![(0, 4)], vec![(0, 10)], vec![(5, 9)]];
        assert_eq!(places(&lives, &[1, 1, 1, 2]), (vec![0, 1, 2, 3], 5));
    }

    #[test]
    fn too_many_places() {
        let lives = vec![vec![(0, 10)]; 5];
        assert!(assign(&lives, |_| 1, 4).is_none());
    }

    #[test]
    fn counts_what_is_alive() {
        let lives = [vec![(0, 4)], vec![(2, 6)], vec![(4, 8)]];
        assert_eq!(most_alive(&lives, |v| [1, 2, 1][v], 10), 3);
    }
}
