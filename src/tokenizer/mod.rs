use crate::{Error, Result};

pub struct Tokenizer;

impl Tokenizer {
    pub fn new(_vocab: usize, _context: usize) -> Result<Tokenizer> {
        Ok(Tokenizer)
    }
    pub fn encode(&self, _text: &str) -> Result<Vec<u32>> {
        Err(Error::Labels("the tokenizer is not there yet".into()))
    }
}
