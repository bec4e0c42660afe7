pub mod config;
pub mod recognise;
