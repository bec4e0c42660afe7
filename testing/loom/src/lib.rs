//! Only tests: `tests/ring.rs`.
