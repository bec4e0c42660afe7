//! The driver's result codes, and failures on their way out.

use std::ffi::CStr;

use crate::mem::MemoryError;

/// A CUresult.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// Inside of this library: what was waited for will never end.
    pub const HUNG: Code = Code(u32::MAX);
}

macro_rules! codes {
    ($($constant:ident = $number:literal, $text:literal;)*) => {
        impl Code {
            // The table is whole: some codes come only out of faults, by number.
            $(#[allow(dead_code)]
            pub const $constant: Code = Code($number);)*

            /// Its name and its text, as cuGetErrorName and cuGetErrorString give them.
            pub fn describe(self) -> Option<(&'static CStr, &'static CStr)> {
                let (name, text) = match self.0 {
                    0 => (c"CUDA_SUCCESS", c"no error"),
                    $($number => (name(concat!("CUDA_ERROR_", stringify!($constant), "\0")), name(concat!($text, "\0"))),)*
                    _ => return None,
                };
                Some((name, text))
            }
        }
    };
}

codes! {
    INVALID_VALUE = 1, "invalid argument";
    OUT_OF_MEMORY = 2, "out of memory";
    NOT_INITIALIZED = 3, "initialization error";
    DEVICE_UNAVAILABLE = 46, "CUDA-capable device(s) is/are busy or unavailable";
    INVALID_DEVICE = 101, "invalid device ordinal";
    INVALID_IMAGE = 200, "device kernel image is invalid";
    INVALID_CONTEXT = 201, "invalid device context";
    NO_BINARY_FOR_GPU = 209, "no kernel image is available for execution on the device";
    ECC_UNCORRECTABLE = 214, "uncorrectable ECC error encountered";
    UNSUPPORTED_LIMIT = 215, "limit is not supported on this architecture";
    INVALID_PTX = 218, "a PTX JIT compilation failed";
    UNSUPPORTED_PTX_VERSION = 222, "the provided PTX was compiled with an unsupported toolchain.";
    CONTAINED = 226, "Invalid access of peer GPU memory over nvlink or a hardware error";
    FILE_NOT_FOUND = 301, "file not found";
    INVALID_HANDLE = 400, "invalid resource handle";
    ILLEGAL_STATE = 401, "the operation cannot be performed in the present state";
    LOSSY_QUERY = 402, "attempted introspection would be semantically lossy";
    NOT_FOUND = 500, "named symbol not found";
    NOT_READY = 600, "device not ready";
    ILLEGAL_ADDRESS = 700, "an illegal memory access was encountered";
    LAUNCH_OUT_OF_RESOURCES = 701, "too many resources requested for launch";
    PRIMARY_CONTEXT_ACTIVE = 708, "cannot set while device is active in this process";
    CONTEXT_IS_DESTROYED = 709, "context is destroyed";
    HOST_MEMORY_ALREADY_REGISTERED = 712, "part or all of the requested memory range is already mapped";
    HOST_MEMORY_NOT_REGISTERED = 713, "pointer does not correspond to a registered memory region";
    MISALIGNED_ADDRESS = 716, "misaligned address";
    ASSERT = 710, "device-side assert triggered";
    LAUNCH_FAILED = 719, "unspecified launch failure";
    COOPERATIVE_LAUNCH_TOO_LARGE = 720, "too many blocks in cooperative launch";
    TENSOR_MEMORY_LEAK = 721, "Tensor Memory not completely freed";
    NOT_PERMITTED = 800, "operation not permitted";
    NOT_SUPPORTED = 801, "operation not supported";
    MPS_CONNECTION_FAILED = 805, "MPS client failed to connect to the MPS control daemon or the MPS server";
    STREAM_CAPTURE_UNSUPPORTED = 900, "operation not permitted when stream is capturing";
    STREAM_CAPTURE_INVALIDATED = 901, "operation failed due to a previous error during capture";
    STREAM_CAPTURE_MERGE = 902, "operation would result in a merge of separate capture sequences";
    STREAM_CAPTURE_UNMATCHED = 903, "capture was not ended in the same stream as it began";
    STREAM_CAPTURE_UNJOINED = 904, "capturing stream has unjoined work";
    STREAM_CAPTURE_ISOLATION = 905, "dependency created on uncaptured work in another stream";
    STREAM_CAPTURE_IMPLICIT = 906, "operation would make the legacy stream depend on a capturing blocking stream";
    CAPTURED_EVENT = 907, "operation not permitted on an event last recorded in a capturing stream";
    STREAM_CAPTURE_WRONG_THREAD = 908, "attempt to terminate a thread-local capture sequence from another thread";
    GRAPH_EXEC_UPDATE_FAILURE = 910, "the graph update was not performed because it included changes which violated constraints";
    INVALID_CLUSTER_SIZE = 912, "cluster misconfiguration";
    UNKNOWN = 999, "unknown error";
}

/// Text that ends in its only NUL, as the table above writes it.
fn name(text: &'static str) -> &'static CStr {
    CStr::from_bytes_until_nul(text.as_bytes()).unwrap_or(c"")
}

/// Why a function does not succeed. The message, where there is something to say, goes to stderr, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: Option<String>,
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl From<Code> for Failure {
    /// A code that says everything.
    fn from(code: Code) -> Failure {
        Failure { code, message: None }
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Failure {
        let code = match error {
            MemoryError::OutOfMemory { .. } => Code::OUT_OF_MEMORY,
            _ => Code::INVALID_VALUE,
        };
        Failure { code, message: Some(error.to_string()) }
    }
}

/// Fails with a code and the reason.
pub fn fail<T>(code: Code, message: impl Into<String>) -> Outcome<T> {
    Err(Failure { code, message: Some(message.into()) })
}
