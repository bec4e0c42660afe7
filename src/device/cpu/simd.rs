//! Instruction sets, chosen once at start. The only `unsafe` of the CPU device is here.
//!
//! A function inside [`multiversion!`] is compiled twice from one body: for AVX2 with fused multiply-add, and for
//! whatever the target always has (SSE2 on x86-64, NEON on AArch64). The bodies are plain loops over arrays of a
//! fixed length, which the compiler turns into vectors; everything they call is `#[inline(always)]`, so that it is
//! compiled for the same instruction set.

/// Proof that an instruction set exists on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(super) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Baseline,
}

/// Whether the baseline has a fused multiply-add instruction (where it has none, `mul_add` is a slow library call).
pub(super) const BASELINE_FMA: bool = cfg!(target_arch = "aarch64");

impl Isa {
    /// The best that this machine has.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return Isa(Kind::Avx2);
        }
        Isa::baseline()
    }

    /// What every machine of this architecture has.
    pub fn baseline() -> Isa {
        Isa(Kind::Baseline)
    }
}

/// a·b + c, fused where `FMA`.
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `fn name(args) { body }` → `fn name(isa, args)`, compiled for each instruction set. The body sees `FMA`.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::device::cpu::simd::Isa, $($arg: $ty),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, clippy::extra_unused_type_parameters)]
            fn body<const FMA: bool>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) {
                body::<true>($($arg),*)
            }

            match isa.0 {
                // SAFETY: an `Isa` with `Kind::Avx2` is made by `Isa::detect` alone, after it saw AVX2 and FMA on
                // this machine, which is all that calling a function with these target features asks for.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                $crate::device::cpu::simd::Kind::Avx2 => unsafe { avx2($($arg),*) },
                $crate::device::cpu::simd::Kind::Baseline => {
                    body::<{ $crate::device::cpu::simd::BASELINE_FMA }>($($arg),*)
                }
            }
        }
    };
}
pub(super) use multiversion;
