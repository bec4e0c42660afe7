//! What a call of the program answered.

use std::process::Command;

use serde_json::Value;

#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    pub fn of(command: &mut Command) -> Answer {
        let output = command.output().unwrap();
        Answer {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Ended with `code`, and an error on stderr that has all of `words`.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains("error: ") && !self.stderr.contains("panicked"), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "\"{word}\" is not in {self:?}");
        }
    }

    /// The same, and there is one error, of one line that has all of `words`.
    #[track_caller]
    pub fn refused_once(&self, code: i32, words: &[&str]) {
        self.refused(code, words);
        let lines: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(lines.len() == 1, "{self:?}");
        words.iter().for_each(|word| assert!(lines[0].contains(word), "\"{word}\" is not in {self:?}"));
    }

    #[track_caller]
    pub fn done(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.done()).unwrap()
    }
}
