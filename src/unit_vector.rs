//! Vectors brought to a length. A zero vector has no direction and stays zero.

/// What brings a vector of length `from` to length `to`.
pub fn factor(to: f64, from: f64) -> f64 {
    if from == 0.0 { 0.0 } else { to / from }
}

/// In float64.
pub fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

pub fn unit(vector: &[f32]) -> Vec<f32> {
    let factor = factor(1.0, length(vector));
    vector.iter().map(|v| (f64::from(*v) * factor) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_vector_stays_zero() {
        assert_eq!(unit(&[0.0, -0.0, 0.0]), [0.0; 3]);
        assert_eq!(unit(&[3.0, 0.0, -4.0]), [0.6, 0.0, -0.8]);
    }

    /// A quotient of two float32 that is rounded to float64 first is the same float32 in the end: 53 bits are more than
    /// twice 24.
    #[test]
    fn a_factor_of_float32_lengths_is_theirs() {
        let lengths = (0..=u32::MAX).step_by(9973).map(f32::from_bits).filter(|length| *length > 1e-37);
        for length in lengths {
            assert_eq!((factor(1.0, f64::from(length)) as f32).to_bits(), (1.0 / length).to_bits(), "{length}");
        }
    }
}
