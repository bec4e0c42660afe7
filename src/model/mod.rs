pub mod config;
pub mod recognise;
pub mod tensors;
