//! What the tests of all sources use.

use std::collections::VecDeque;

use super::*;
use crate::error::Error;

/// Room that keeps what it was asked for.
#[derive(Default)]
pub struct Memory {
    pub format: Option<Format>,
    pub width: usize,
    pub height: usize,
    pub bytes: Vec<u8>,
    /// So many times there is none.
    pub refuse: usize,
}

impl Room for Memory {
    fn frame(&mut self, format: Format, width: usize, height: usize) -> Result<&mut [u8]> {
        if self.refuse > 0 {
            self.refuse -= 1;
            return Err(Error::Memory("the room is full".to_owned()));
        }
        (self.format, self.width, self.height) = (Some(format), width, height);
        self.bytes = vec![0xee; format.bytes(width, height).unwrap()];
        Ok(&mut self.bytes)
    }
}

/// A source that does what it was told to.
pub struct Script {
    live: bool,
    steps: VecDeque<Result<Next>>,
}

impl Script {
    pub fn live(steps: Vec<Result<Next>>) -> Box<dyn Source> {
        Box::new(Script { live: true, steps: steps.into() })
    }

    pub fn file(steps: Vec<Result<Next>>) -> Box<dyn Source> {
        Box::new(Script { live: false, steps: steps.into() })
    }
}

impl Source for Script {
    fn describe(&self) -> String {
        "a script".to_owned()
    }

    fn is_live(&self) -> bool {
        self.live
    }

    fn next(&mut self, _: &mut dyn Room) -> Result<Next> {
        self.steps.pop_front().expect("asked once more than it should")
    }
}

#[test]
fn sizes_are_bounded() {
    assert!(check_size(4, 5, 20).is_ok());
    assert!(check_size(4, 5, 19).unwrap_err().contains("4×5 is 20 pixels, more than the 19 allowed"));
    assert!(check_size(0, 5, 19).unwrap_err().contains("0×5 pixels"));
    assert!(check_size(u64::MAX, u64::MAX, u64::MAX).is_err());
    assert!(check_size(1 << 31, 1 << 31, u64::MAX).is_err(), "more bytes than memory has");
}
