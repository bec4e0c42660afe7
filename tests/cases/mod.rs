//! The table of cases with what each must yield: every operation as obvious loops in float64.
#![allow(dead_code, unused_imports, reason = "each program that shares this takes a part of it")]

pub mod forgotten;
pub mod overflow;
mod pass;
pub mod reference;

pub use lseg_fast::bench::case::run;
pub use lseg_fast::ops::cases::*;

pub use self::pass::pass;
