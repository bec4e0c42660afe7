//! Bilinear resizing along one axis: which inputs an output takes, with which weights.

/// Two neighbours on one axis and the weight of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub low: usize,
    pub high: usize,
    pub t: f32,
}

/// Where output `i` of `to` falls among `from` inputs, edges aligned (PyTorch's align_corners=False).
#[inline(always)]
pub fn edges(i: usize, from: usize, to: usize) -> Pair {
    if from == to {
        return Pair { low: i, high: i, t: 0.0 };
    }
    at(((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0), from)
}

/// Where output `i` of `to` falls among `from` inputs, first and last aligned (align_corners=True).
#[inline(always)]
pub fn corners(i: usize, from: usize, to: usize) -> Pair {
    if to <= 1 || from <= 1 {
        return Pair { low: 0, high: 0, t: 0.0 };
    }
    at(i as f64 * (from - 1) as f64 / (to - 1) as f64, from)
}

#[inline(always)]
fn at(position: f64, from: usize) -> Pair {
    let low = (position as usize).min(from - 1);
    Pair { low, high: (low + 1).min(from - 1), t: (position - low as f64) as f32 }
}

/// Up to four neighbours on one axis: two bilinear steps after each other.
#[derive(Clone, Copy, Debug)]
pub struct Taps {
    pub index: [usize; 4],
    pub weight: [f32; 4],
    pub count: usize,
}

impl Taps {
    /// Output `i` of `to`, resized (edges aligned) from 2·`half`, upsampled (corners aligned) from `half`.
    #[inline(always)]
    pub fn through_upsample(i: usize, half: usize, to: usize) -> Taps {
        let mut taps = Taps { index: [0; 4], weight: [0.0; 4], count: 0 };
        let outer = edges(i, 2 * half, to);
        for (j, weight) in [(outer.low, 1.0 - outer.t), (outer.high, outer.t)] {
            let inner = corners(j, half, 2 * half);
            taps.add(inner.low, weight * (1.0 - inner.t));
            taps.add(inner.high, weight * inner.t);
        }
        taps
    }

    /// Input `i` itself.
    pub fn identity(i: usize) -> Taps {
        Taps { index: [i, 0, 0, 0], weight: [1.0, 0.0, 0.0, 0.0], count: 1 }
    }

    #[inline(always)]
    fn add(&mut self, index: usize, weight: f32) {
        if weight == 0.0 {
            return;
        }
        match self.index[..self.count].iter().position(|i| *i == index) {
            Some(i) => self.weight[i] += weight,
            None => {
                self.index[self.count] = index;
                self.weight[self.count] = weight;
                self.count += 1;
            }
        }
    }

    #[inline(always)]
    pub fn iter(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.index[..self.count].iter().copied().zip(self.weight[..self.count].iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_step_taps_are_the_two_steps() {
        for (half, to) in [(1, 1), (1, 7), (3, 6), (5, 10), (7, 33), (16, 5), (48, 96), (48, 500)] {
            let values: Vec<f32> = (0..half).map(|i| ((i * 7919) % 13) as f32).collect();
            let pick = |v: &[f32], p: Pair| v[p.low] + p.t * (v[p.high] - v[p.low]);
            let doubled: Vec<f32> = (0..2 * half).map(|i| pick(&values, corners(i, half, 2 * half))).collect();
            for i in 0..to {
                let want = pick(&doubled, edges(i, 2 * half, to));
                let taps = Taps::through_upsample(i, half, to);
                let got: f32 = taps.iter().map(|(j, w)| w * values[j]).sum();
                assert!((got - want).abs() < 1e-4, "{half} → {to}, {i}: {got}, not {want}");
            }
        }
    }
}
