//! The driver's results, and what each leaves behind.

use std::ops::RangeInclusive;

use crate::error::Error;

/// A result other than success, as the number that it is: newer drivers have more of them than any list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

/// What a function of NVIDIA's answered.
pub type CallResult = Result<(), Code>;

pub fn check(number: u32) -> CallResult {
    if number == 0 { Ok(()) } else { Err(Code(number)) }
}

/// What is left when a call has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextState {
    /// The context works as before.
    Usable,
    /// The context answers every later call with the same error.
    Lost(Advice),
    /// Nobody knows: the context is asked.
    Unknown,
}

/// What to do when a context has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// CUDA's documentation: the context must be destroyed.
    New,
    /// CUDA's documentation: the process must be terminated and started again.
    Process,
    /// The hardware is at fault.
    Reset,
    /// The server between the process and the GPU is.
    Mps,
    /// Work that never ends has the context.
    Leave,
}

impl Advice {
    pub fn words(self) -> &'static str {
        match self {
            Advice::New => "make a new one",
            Advice::Process => {
                "make a new one, and start the process again where that fails (CUDA's documentation asks for it)"
            }
            Advice::Reset => {
                "its memory or link is at fault, and the GPU needs a reset (nvidia-smi --gpu-reset, or start the machine again) \
                 before a new one works on it; another GPU needs none"
            }
            Advice::Mps => {
                "see that the MPS server runs (nvidia-cuda-mps-control), then make a new one, and start the process again where \
                 that fails"
            }
            Advice::Leave => {
                "make a new one; what the GPU is at goes on, and the lost engine's memory stays taken, until the process ends"
            }
        }
    }

    /// In the GPU's primary context.
    pub fn words_in_primary(self) -> &'static str {
        match self {
            Advice::New | Advice::Process => {
                "make a new one in a context of its own; the GPU's primary context is lost to all who share it (PyTorch, CuPy, other \
                 engines), and a new one in it is lost too until all of them have released it; start the process again where that \
                 fails (CUDA's documentation asks for it)"
            }
            Advice::Leave => {
                "make a new one in a context of its own; what the GPU is at goes on in the primary one, and the lost engine's memory \
                 stays taken, until the process ends"
            }
            Advice::Reset | Advice::Mps => self.words(),
        }
    }
}

const PROCESS: ContextState = ContextState::Lost(Advice::Process);
const RESET: ContextState = ContextState::Lost(Advice::Reset);
const NEW: ContextState = ContextState::Lost(Advice::New);
const MPS: ContextState = ContextState::Lost(Advice::Mps);
const USABLE: ContextState = ContextState::Usable;
const UNKNOWN: ContextState = ContextState::Unknown;

/// Every code of CUDA 13.0's cuda.h (917 and 918: of 13.1 and 13.3), by what its description there says. Numbers that are not
/// here are [`ContextState::Unknown`].
const CODES: &[(RangeInclusive<u32>, ContextState)] = &[
    (1..=2, USABLE),      // a wrong argument; no memory: nothing was begun
    (3..=3, UNKNOWN),     // not initialised: after a fork, or the driver has gone
    (4..=4, PROCESS),     // the driver is shutting down
    (5..=8, USABLE),      // the profiler's
    (34..=34, USABLE),    // the toolkit's stub: nothing ever works
    (36..=36, USABLE),    // the call needs a newer driver
    (46..=46, USABLE),    // the GPU is not to be had: no context was made
    (100..=102, USABLE),  // no GPU, no such GPU, no licence
    (200..=200, USABLE),  // an image that is none
    (201..=201, UNKNOWN), // no context is current, or it was destroyed by somebody else
    (202..=202, USABLE),  // already current
    (205..=213, USABLE),  // mapping of resources; no code for this GPU
    (214..=214, RESET),   // a memory error beyond ECC
    (215..=219, USABLE),  // limits, peers, PTX that does not compile, graphics
    (220..=220, RESET),   // NVLink
    (221..=225, USABLE),  // no PTX compiler, PTX too new, compiling forbidden, affinity, device-side waits in PTX
    (226..=226, PROCESS), // an exception that the GPU has contained
    (300..=303, USABLE),  // sources, files and shared objects
    (304..=304, UNKNOWN), // the operating system refused something
    (400..=402, USABLE),  // handles, states, questions that lose something
    (500..=500, USABLE),  // no such name
    (600..=600, USABLE),  // not ready yet
    (700..=700, PROCESS), // a wrong address in a kernel
    (701..=701, USABLE),  // too many resources for a launch
    (702..=702, PROCESS), // the display's watchdog ended a kernel
    (703..=708, USABLE),  // textures, peers, the primary context
    (709..=710, NEW),     // destroyed; an assert in a kernel
    (711..=713, USABLE),  // peers, page-locked memory
    (714..=719, PROCESS), // stack, instruction, alignment, address space, program counter, launch
    (720..=720, USABLE),  // a cooperative launch that is too large
    (721..=721, PROCESS), // tensor memory was not given back
    (800..=804, USABLE),  // not permitted, not supported, the system is not ready or its parts do not fit
    (805..=809, MPS),     // the connection to the MPS server, its calls, its room
    (810..=810, PROCESS), // the MPS server ended this client
    (811..=812, USABLE),  // dynamic parallelism
    (900..=910, USABLE),  // capture, a wait's time, a graph's change
    (911..=911, PROCESS), // a device outside of CUDA told of an error
    (912..=915, USABLE),  // clusters, functions, resources
    (916..=916, UNKNOWN), // keys of confidential computing
    (917..=918, USABLE),  // a detached stream, a graph's second capture
    (999..=999, UNKNOWN), // unknown to the driver itself
];

impl Code {
    pub const OUT_OF_MEMORY: Code = Code(2);
    pub const STUB_LIBRARY: Code = Code(34);
    pub const NOT_READY: Code = Code(600);

    pub fn context_state(self) -> ContextState {
        let known = CODES.iter().find(|(codes, _)| codes.contains(&self.0));
        known.map_or(ContextState::Unknown, |(_, state)| *state)
    }

    /// Whether a context that was asked how it is has ended; an answer about a capture, which the question itself spoils, tells
    /// nothing of the context.
    pub fn means_the_context_is_lost(self) -> bool {
        self.context_state() != ContextState::Usable
    }

    /// Whether the driver does not take this machine code (an image of a newer toolkit, none for this GPU, PTX instead of it or too
    /// new), so that it may compile PTX in its place.
    pub fn refuses_image(self) -> bool {
        matches!(self.0, 200 | 209 | 218 | 222)
    }

    /// What a person may do about it, where the driver's own words do not say.
    pub fn hint(self) -> Option<&'static str> {
        Some(match self.0 {
            3 => {
                "a process that was forked after CUDA had begun cannot use it: start it by other means (Python: spawn)"
            }
            46 => {
                "the GPU is in use by another process (compute mode exclusive: one process a GPU), or closed to all (prohibited); \
                 nvidia-smi -q -d COMPUTE says which"
            }
            221 => "libnvidia-ptxjitcompiler.so, a part of the driver, is missing",
            223 => "CUDA_DISABLE_PTX_JIT is set",
            802 => "a service of this machine is not running yet (NVSwitch: nvidia-fabricmanager)",
            803 => "the driver's library and its kernel module differ: start the machine again after a driver's update",
            804 => {
                "the compatibility package's libcuda does not serve this GPU: take its folder out of LD_LIBRARY_PATH"
            }
            805..=809 => "the MPS server (nvidia-cuda-mps-control) is not running, not ready or full",
            _ => return None,
        })
    }

    /// The error of a call that left everything else as it was.
    pub fn error(self, reason: String) -> Error {
        if self == Code::OUT_OF_MEMORY { Error::Memory(reason) } else { Error::Device(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_without_overlaps() {
        assert!(CODES.windows(2).all(|pair| pair[0].0.end() < pair[1].0.start()));
    }

    #[test]
    fn what_ends_a_context_is_told_from_what_does_not() {
        for code in [4, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 805, 806, 810, 911] {
            assert!(matches!(Code(code).context_state(), ContextState::Lost(_)), "{code}");
        }
        for code in [1, 2, 46, 209, 218, 222, 400, 600, 701, 720, 801, 900, 901, 912] {
            assert_eq!(Code(code).context_state(), ContextState::Usable, "{code}");
        }
        for code in [3, 201, 227, 304, 722, 813, 919, 999, 1000, u32::MAX] {
            assert_eq!(Code(code).context_state(), ContextState::Unknown, "{code}");
        }
        assert!(
            [214, 220].into_iter().all(|code| Code(code).context_state() == RESET),
            "a new engine does not mend hardware"
        );
    }
}
