//! The last lines of an output.

use std::collections::VecDeque;

const LINES: usize = 40;
/// Characters of a line.
const WIDTH: usize = 400;

#[derive(Clone, Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    left_out: usize,
}

impl Tail {
    pub fn push(&mut self, line: &str) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
            self.left_out += 1;
        }
        self.lines.push_back(shortened(line));
    }

    /// As a block for the log.
    pub fn text(&self) -> String {
        let left_out =
            if self.left_out > 0 { format!("    … {} lines before\n", self.left_out) } else { String::new() };
        self.lines.iter().fold(left_out, |text, line| format!("{text}    {line}\n"))
    }
}

/// A line of a length that a reader bears.
pub fn shortened(line: &str) -> String {
    let mut short: String = line.chars().take(WIDTH).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}
