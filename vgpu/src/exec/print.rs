//! `printf` and failed assertions: text that a kernel leaves to its user.

use std::io::Write;

use super::block::{Cta, Env};
use super::format::{Read, Values, values, write};
use super::memory::Peek;
use super::registers::Done;
use super::warp::Warp;
use crate::fault::{BadAccess, Check};
use crate::ir::Slot;

/// The longest string that is read: more is taken for one without its end.
const MOST_TEXT: usize = 1 << 16;
/// The most values of one call (CUDA C++ Programming Guide, Formatted Output).
const MOST_VALUES: usize = 32;

/// `vprintf`: one call after the other, each lane's written at once. d = how many values the format names, -1: too many.
pub(super) fn print(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    active: u32,
    d: Option<Slot>,
    [format, arguments]: [Slot; 2],
) -> Done {
    warp.registers.check_wide(format, active)?;
    warp.registers.check_wide(arguments, active)?;
    let (formats, from) = (*warp.registers.wide(format), *warp.registers.wide(arguments));
    let mut counts = [0; 32];
    for l in (0..32usize).filter(|l| active >> l & 1 == 1) {
        let mut source = Memory { peek: Peek { env, cta, warp, lane: l }, at: from[l] };
        let format = source.peek.text(formats[l])?;
        let mut text = Vec::new();
        counts[l] = match values(&format) {
            n if n > MOST_VALUES => u32::MAX,
            n => {
                write(&format, &mut source, &mut text)?;
                n as u32
            }
        };
        // Nobody to tell: as on a GPU whose output is not read.
        let _ = std::io::stdout().lock().write_all(&text);
    }
    let _ = std::io::stdout().flush();
    if let Some(d) = d {
        warp.registers.put(d, active, &counts);
    }
    Ok(())
}

/// `__assertfail`, of the first lane: its fault.
pub(super) fn assertion(
    env: &Env<'_>,
    cta: &mut Cta<'_>,
    warp: &mut Warp<'_>,
    active: u32,
    [message, file, line, function]: [Slot; 4],
) -> Box<BadAccess> {
    let lane = active.trailing_zeros() as usize % 32;
    let mut text = |slot: Slot| -> Read<String> {
        warp.registers.check_wide(slot, active)?;
        let at = warp.registers.wide(slot)[lane];
        let text = Peek { env, cta, warp, lane }.text(at)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let told = (|| Ok([text(message)?, text(file)?, text(function)?]))();
    let [message, file, function] = match told {
        Ok(told) => told,
        Err(bad) => return bad,
    };
    let line = warp.registers.narrow(line)[lane];
    let detail = format!("assertion `{message}` failed, {file}:{line}, in {function}");
    Box::new(BadAccess { check: Check::Assert, lanes: active, address: None, detail, other: None })
}

impl Peek<'_, '_, '_, '_> {
    /// The bytes before the zero byte.
    fn text(&mut self, address: u64) -> Read<Vec<u8>> {
        let mut found = Vec::new();
        loop {
            match self.bytes(address.wrapping_add(found.len() as u64), 1)? as u8 {
                0 => return Ok(found),
                byte if found.len() < MOST_TEXT => found.push(byte),
                _ => {
                    let detail = format!("a string without its end in {MOST_TEXT} bytes");
                    let (lanes, address) = (1 << self.lane, Some(address));
                    return Err(Box::new(BadAccess { check: Check::OutOfBounds, lanes, address, detail, other: None }));
                }
            }
        }
    }
}

/// Values that lie one behind the other, each aligned to its size.
struct Memory<'e, 'c, 'g, 'w> {
    peek: Peek<'e, 'c, 'g, 'w>,
    at: u64,
}

impl Values for Memory<'_, '_, '_, '_> {
    fn next(&mut self, bytes: usize) -> Read<u64> {
        let at = self.at.wrapping_add(bytes as u64 - 1) & !(bytes as u64 - 1);
        self.at = at.wrapping_add(bytes as u64);
        self.peek.bytes(at, bytes)
    }

    fn text(&mut self, address: u64) -> Read<Vec<u8>> {
        self.peek.text(address)
    }
}
