//! The name of a run's folder: the day and the GPU.

use crate::Outcome;
use crate::results::Results;

/// `2026-11-28-h100-80gb-hbm3`.
pub fn name(results: &Results) -> Outcome<String> {
    let day = results.day().ok_or("result.jsonl has no date: its first line should be the record \"begin\"")?;
    let gpu = results.gpu().ok_or("result.jsonl names no GPU: its record \"device\" failed or is missing")?;
    Ok(format!("{day}-{}", slug(gpu)))
}

/// Small letters, digits and single hyphens; the vendor goes without saying.
fn slug(gpu: &str) -> String {
    let words = gpu.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words = words.map(str::to_ascii_lowercase).filter(|word| word != "nvidia");
    let name = words.take(6).collect::<Vec<_>>().join("-");
    if name.is_empty() { "gpu".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_gpus_become_names_of_folders() {
        assert_eq!(slug("NVIDIA H100 80GB HBM3"), "h100-80gb-hbm3");
        assert_eq!(slug("Virtual GPU (H100)"), "virtual-gpu-h100");
        assert_eq!(slug("../../x"), "x");
        assert_eq!(slug("…"), "gpu");
    }
}
