//! A request seen as 16-byte lines: which it touches, and which bytes of each. Every legal access of a lane lies in one.

use super::Request;

/// Bytes of a line: what one lane accesses at most, and what one shadow record stands for.
pub(super) const LINE: u64 = 16;

/// Lines that are put in order without comparing them.
const WINDOW: usize = 64;

/// The different lines of a request, ascending.
pub(super) struct Lines {
    /// Line number (from `base`) × 65536 + mask of its bytes.
    keys: [u64; 32],
    len: usize,
    /// Some byte is asked by two lanes.
    pub overlap: bool,
    /// All lanes ask, one after the other, without gaps.
    pub contiguous: bool,
}

impl Lines {
    /// Lines of the lanes of `mask`, counted from `base`. All must be aligned and lie from `base` on.
    pub fn of(r: &Request<'_>, mask: u32, base: u64) -> Lines {
        let contiguous = mask == u32::MAX && is_contiguous(r.addresses, r.bytes as u64);
        let mut lines = Lines { keys: [0; 32], len: 0, overlap: false, contiguous };
        if contiguous {
            lines.contiguous(r.addresses[0] - base, 32 * r.bytes as u64);
        } else {
            lines.gather(r, mask, base);
        }
        lines
    }

    fn contiguous(&mut self, first: u64, bytes: u64) {
        let last = first + bytes - 1;
        let (from, to) = (first / LINE, last / LINE);
        self.len = (to - from + 1) as usize;
        for (key, line) in self.keys.iter_mut().zip(from..=to) {
            *key = line << 16 | 0xffff;
        }
        self.keys[0] &= !0xffff | 0xffff << (first % LINE);
        self.keys[self.len - 1] &= !0xffff | 0xffff >> (LINE - 1 - last % LINE);
    }

    fn gather(&mut self, r: &Request<'_>, mask: u32, base: u64) {
        if mask == u32::MAX && r.bytes == LINE as usize {
            return self.whole(r, base);
        }
        let bytes = (1u64 << r.bytes) - 1;
        let mut ascending = true;
        let mut previous = None;
        for lane in lanes(mask) {
            let offset = r.addresses[lane] - base;
            let (line, bytes) = (offset / LINE, bytes << (offset % LINE));
            if previous == Some(line) {
                let key = &mut self.keys[self.len - 1];
                self.overlap |= *key & bytes != 0;
                *key |= bytes;
            } else {
                ascending &= previous.is_none_or(|p| line > p);
                previous = Some(line);
                self.keys[self.len] = line << 16 | bytes;
                self.len += 1;
            }
        }
        if !ascending {
            self.sort();
        }
    }

    /// Every lane asks for a line.
    fn whole(&mut self, r: &Request<'_>, base: u64) {
        for (key, address) in self.keys.iter_mut().zip(r.addresses) {
            *key = (((address - base) / LINE) << 16) | 0xffff;
        }
        self.len = 32;
        let mut ascending = true;
        for i in 1..32 {
            ascending &= self.keys[i - 1] < self.keys[i];
        }
        if !ascending {
            self.sort();
        }
    }

    /// Brings equal lines together.
    fn sort(&mut self) {
        let keys = &self.keys[..self.len];
        let low = keys.iter().fold(u64::MAX, |low, key| low.min(key >> 16));
        let high = keys.iter().fold(0, |high, key| high.max(key >> 16));
        if high - low < WINDOW as u64 {
            return self.place(low);
        }
        self.keys[..self.len].sort_unstable();
        let mut kept = 0;
        for i in 1..self.len {
            let key = self.keys[i];
            if key >> 16 == self.keys[kept] >> 16 {
                self.overlap |= self.keys[kept] & key & 0xffff != 0;
                self.keys[kept] |= key & 0xffff;
            } else {
                kept += 1;
                self.keys[kept] = key;
            }
        }
        self.len = kept + 1;
    }

    /// The same for lines that all lie from `low` on in a window, as those of a tile do.
    fn place(&mut self, low: u64) {
        let mut masks = [0u16; WINDOW];
        let mut present = 0u64;
        for key in &self.keys[..self.len] {
            let place = ((key >> 16) - low) as usize;
            self.overlap |= masks[place] & *key as u16 != 0;
            masks[place] |= *key as u16;
            present |= 1 << place;
        }
        self.len = 0;
        while present != 0 {
            let place = present.trailing_zeros() as usize;
            present &= present - 1;
            self.keys[self.len] = (low + place as u64) << 16 | u64::from(masks[place]);
            self.len += 1;
        }
    }

    /// (line, mask of its bytes)
    pub fn iter(&self) -> impl Iterator<Item = (usize, u16)> {
        self.keys[..self.len].iter().map(|&key| ((key >> 16) as usize, key as u16))
    }

    /// The lines alone.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.keys[..self.len].iter().map(|&key| (key >> 16) as u32)
    }

    /// Different 4-byte words.
    pub fn words(&self) -> u64 {
        let of_line = |mask: u16| {
            let pairs = mask | mask >> 1;
            u64::from(((pairs | pairs >> 2) & 0x1111).count_ones())
        };
        self.iter().map(|(_, mask)| of_line(mask)).sum()
    }
}

/// Lane after lane, without gaps.
pub(super) fn is_contiguous(addresses: &[u64; 32], bytes: u64) -> bool {
    let first = addresses[0];
    let mut same = true;
    for (lane, &address) in addresses.iter().enumerate() {
        same &= address == first.wrapping_add(lane as u64 * bytes);
    }
    same
}

/// The lanes of a mask, lowest first.
pub(super) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            lane
        })
    })
}

impl Request<'_> {
    /// Lanes whose address is no multiple of the access.
    pub(super) fn misaligned(&self) -> u32 {
        let low = self.bytes as u64 - 1;
        let mut any = 0;
        for &address in self.addresses {
            any |= address & low;
        }
        if any == 0 {
            return 0;
        }
        let mut found = 0;
        for lane in lanes(self.mask) {
            found |= u32::from(self.addresses[lane] & low != 0) << lane;
        }
        found
    }

    /// Lowest and highest address of the lanes.
    pub(super) fn span(&self) -> (u64, u64) {
        let (mut low, mut high) = (u64::MAX, 0);
        if self.mask == u32::MAX {
            for &address in self.addresses {
                low = low.min(address);
                high = high.max(address);
            }
        } else {
            for lane in lanes(self.mask) {
                low = low.min(self.addresses[lane]);
                high = high.max(self.addresses[lane]);
            }
        }
        (low, high)
    }
}
