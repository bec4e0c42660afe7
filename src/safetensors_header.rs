//! What stands before the tensors of a safetensors file that is written here.

/// The length of the JSON, and the JSON, with spaces behind it so that the tensors begin at a multiple of eight bytes.
pub fn framed(mut json: Vec<u8>) -> Vec<u8> {
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes(), &*json].concat()
}
