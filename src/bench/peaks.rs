//! What a GPU can do at most: the ceilings that measured speeds are held against.

use serde::Serialize;

use crate::device::cuda::Info;
use crate::device::cuda::arch::Arch;

/// Words in the names of professional and server boards.
const PROFESSIONAL: &[&str] = &["A10", "A16", "A2 ", "A40", "RTX A", "L4", "L40", "RTX 6000", "RTX PRO"];

/// Ceilings of one GPU.
#[derive(Clone, Debug, Serialize)]
pub struct Peaks {
    pub gpu: String,
    /// At the highest clock; a GPU under load may run at a lower one.
    pub tflops: f64,
    pub gb_per_s: f64,
    /// The highest clock.
    pub mhz: f64,
    /// How they follow from what the driver says.
    pub basis: String,
}

impl Peaks {
    /// From the GPU's capability and clocks; `None` for an architecture that is not known, or a driver that does not tell
    /// the clocks.
    pub fn of(info: &Info) -> Option<Peaks> {
        if [info.clock_khz, info.memory_clock_khz, info.memory_bus_bits].contains(&0) {
            return None;
        }
        let arch = Arch::of(info.capability)?;
        let is_professional = PROFESSIONAL.iter().any(|word| info.name.contains(word));
        let flop = if is_professional { arch.professional_flop } else { arch.tensor_flop };
        let (clock, memory) = (f64::from(info.clock_khz) * 1e3, f64::from(info.memory_clock_khz) * 1e3);
        Some(Peaks {
            gpu: info.name.clone(),
            tflops: f64::from(flop) * f64::from(info.multiprocessors) * clock / 1e12,
            mhz: clock / 1e6,
            gb_per_s: 2.0 * memory * f64::from(info.memory_bus_bits) / 8.0 / 1e9,
            basis: format!(
                "{flop} FLOP a clock on each of {} multiprocessors at {:.2} GHz, float16 products with float32 sums; {} bits of \
                 memory at twice {:.2} GHz; the driver's highest clocks",
                info.multiprocessors,
                clock / 1e9,
                info.memory_bus_bits,
                memory / 1e9
            ),
        })
    }
}
