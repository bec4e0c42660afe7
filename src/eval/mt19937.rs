//! The Mersenne Twister as NumPy's legacy `numpy.random.seed` and `choice` draw from it: published episodes are its
//! draws.

const WORDS: usize = 624;
const AHEAD: usize = 397;

/// A generator (Matsumoto and Nishimura 1998).
pub struct Mt19937 {
    state: [u32; WORDS],
    next: usize,
}

impl Mt19937 {
    /// As `numpy.random.seed(seed)`.
    pub fn new(seed: u32) -> Mt19937 {
        let mut state = [seed; WORDS];
        for i in 1..WORDS {
            let before = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(before ^ before >> 30).wrapping_add(i as u32);
        }
        Mt19937 { state, next: WORDS }
    }

    fn draw(&mut self) -> u32 {
        if self.next == WORDS {
            self.refill();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    fn refill(&mut self) {
        for i in 0..WORDS {
            let joined = self.state[i] & 0x8000_0000 | self.state[(i + 1) % WORDS] & 0x7fff_ffff;
            let twisted = joined >> 1 ^ if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + AHEAD) % WORDS] ^ twisted;
        }
        self.next = 0;
    }

    /// 0 to `most`: draws of as many bits as `most` has, until one is not above it.
    fn at_most(&mut self, most: u32) -> u32 {
        let mask = u32::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.draw() & mask;
            if value <= most {
                return value;
            }
        }
    }

    /// As `numpy.random.choice(count, 1, replace=False)`: the first of a permutation of 0 to `count - 1` (Fisher and
    /// Yates).
    pub fn choice(&mut self, count: u32) -> usize {
        let mut permutation: Vec<u32> = (0..count).collect();
        for last in (1..count).rev() {
            let other = self.at_most(last);
            permutation.swap(last as usize, other as usize);
        }
        permutation[0] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// numpy.random.seed(seed); [numpy.random.choice(n, 1, replace=False)[0] for n in counts] of NumPy 2.4.6.
    #[test]
    fn choices_are_numpys() {
        let counts = [1, 2, 3, 20, 20, 1000, 7, 65_537, 4, 1, 999];
        for (seed, expected) in [
            (0, [0, 1, 2, 11, 4, 631, 0, 9384, 3, 0, 227]),
            (1, [0, 0, 1, 13, 3, 705, 3, 2675, 0, 0, 260]),
            (4294967295, [0, 0, 1, 2, 10, 947, 3, 29794, 0, 0, 851]),
        ] {
            let mut generator = Mt19937::new(seed);
            assert_eq!(counts.map(|count| generator.choice(count)), expected, "seed {seed}");
        }
    }
}
