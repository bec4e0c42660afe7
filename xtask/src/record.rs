//! result.jsonl: one object a line, whole and in the file as soon as it is known, so that a run that is cut off keeps
//! its past.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Outcome;

/// The name of the file in a result folder.
pub const FILE: &str = "result.jsonl";
/// The record that ends a stage.
pub const STAGE: &str = "stage";
/// The first and the last record of a run; they belong to no stage and carry 0.
pub const BEGIN: &str = "begin";
pub const END: &str = "end";

/// One line.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Record {
    pub stage: u8,
    pub name: String,
    pub ok: bool,
    /// The exit code of the process, where there was one and it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rc: Option<i32>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s: Option<f64>,
    /// Why it is not ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// A tool that this machine does not have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl Record {
    pub fn new(stage: u8, name: impl Into<String>, ok: bool) -> Record {
        Record { stage, name: name.into(), ok, ..Record::default() }
    }

    pub fn with(mut self, data: Value) -> Record {
        self.data = Some(data);
        self
    }
}

/// Writes result.jsonl, from any thread.
pub struct Recorder {
    file: Mutex<File>,
}

impl Recorder {
    /// A new file in a folder that exists.
    pub fn create(folder: &Path) -> Outcome<Recorder> {
        let path = folder.join(FILE);
        let file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Recorder { file: Mutex::new(file) })
    }

    /// One write a line: whoever kills this process leaves whole lines.
    pub fn write(&self, record: &Record) {
        let written = serde_json::to_string(record).map_err(|e| e.to_string()).and_then(|line| {
            let mut file = self.file.lock().map_err(|_| "a thread that wrote it broke down".to_owned())?;
            file.write_all(format!("{line}\n").as_bytes()).map_err(|e| e.to_string())
        });
        if let Err(reason) = written {
            eprintln!("error: {FILE}: {reason}; not recorded: {record:?}");
        }
    }
}
