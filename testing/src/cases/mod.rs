//! The table of cases with what each must yield: every operation as obvious loops in float64.

pub mod overflow;
mod pass;
mod photo;
pub mod products;
pub mod reference;
pub mod sensitivity;
mod windows;

pub use lseg_fast::bench::case::run;
pub use lseg_fast::ops::cases::*;

pub use self::pass::pass;
