//! A run of the bundle on a GPU: its nine stages ([`stages`]), the lines that it leaves ([`record`]), what can be read
//! from them ([`results`]), and the pages that are written from that ([`report`], [`import`]).

pub mod import;
pub mod record;
pub mod report;
pub mod results;
pub mod stages;

/// A failure in words for the terminal.
pub type Outcome<T = ()> = Result<T, String>;
