//! The memory of the virtual GPU through its public functions: every check beside a clean twin, counts of known access
//! patterns, and agreement with a map of bytes under random accesses.

mod banks;
mod blocks;
mod copies;
mod fixtures;
mod global;
mod local;
mod model;
mod shared;
mod tensor_map;
