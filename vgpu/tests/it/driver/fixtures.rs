//! What the tests share: kernels as PTX text, contexts, launches.

use std::sync::Arc;

use cudarc::driver::sys::{CUresult, CUstreamCaptureMode as CaptureMode};
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

pub use crate::children::in_child;
pub use crate::library::{library, load_library, text_of};

/// y[i] = a·x[i] for i < n.
pub const SCALE: &str = r"
.version 7.4
.target sm_80
.address_size 64

.visible .entry scale(.param .u64 y, .param .u64 x, .param .f32 a, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .f32 %f<4>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [y];
    ld.param.u64 %rd2, [x];
    ld.param.f32 %f1, [a];
    ld.param.u32 %r2, [n];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r1, %r3, %r4, %r5;
    setp.ge.s32 %p1, %r1, %r2;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd2;
    mul.wide.s32 %rd4, %r1, 4;
    add.s64 %rd5, %rd3, %rd4;
    ld.global.f32 %f2, [%rd5];
    mul.f32 %f3, %f2, %f1;
    cvta.to.global.u64 %rd6, %rd1;
    add.s64 %rd7, %rd6, %rd4;
    st.global.f32 [%rd7], %f3;
DONE:
    ret;
}
";

/// Variables: out[0] = counter, out[1] = the bits of factor[1].
pub const VARIABLES: &str = r"
.version 7.4
.target sm_80
.address_size 64

.visible .global .align 4 .u32 counter = 7;
.visible .const .align 4 .f32 factor[2] = {0f40000000, 0f40400000};

.visible .entry look(.param .u64 out)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [counter];
    st.global.u32 [%rd2], %r1;
    ld.const.u32 %r2, [factor+4];
    st.global.u32 [%rd2+4], %r2;
    ret;
}
";

/// Dynamic shared memory, 1 KiB of static, and a block of at most 64 threads.
pub const SHARED: &str = r"
.version 7.4
.target sm_80
.address_size 64

.extern .shared .align 16 .b8 dynamic[];

.visible .entry shared_user()
.maxntid 64, 1, 1
{
    .reg .b32 %r<4>;
    .shared .align 16 .b8 fixed[1024];
    mov.u32 %r1, fixed;
    mov.u32 %r2, %tid.x;
    mad.lo.u32 %r3, %r2, 4, %r1;
    st.shared.u32 [%r3], %r2;
    ret;
}
";

/// A context of the test's own.
pub fn context() -> Option<Arc<CudaContext>> {
    load_library().then(|| {
        let context = CudaContext::new_non_primary(0, 0).expect("a context");
        // cudarc's own events would be waited for inside captures.
        // SAFETY: each test orders its streams itself.
        unsafe { context.disable_event_tracking() };
        context
    })
}

pub fn function(context: &Arc<CudaContext>, ptx: &str, name: &str) -> CudaFunction {
    context.load_module(Ptx::from_src(ptx)).expect("the module loads").load_function(name).expect("the kernel is there")
}

pub fn config(grid: u32, block: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (block, 1, 1), shared_mem_bytes: 0 }
}

/// y = a·x, queued.
pub fn scale(
    stream: &Arc<CudaStream>,
    function: &CudaFunction,
    y: &mut CudaSlice<f32>,
    x: &CudaSlice<f32>,
    a: f32,
    n: u32,
) -> Result<(), DriverError> {
    let mut launch = stream.launch_builder(function);
    launch.arg(y).arg(x).arg(&a).arg(&n);
    // SAFETY: the arguments are the kernel's; what it does with them is what is tested.
    unsafe { launch.launch(config(n.div_ceil(64), 64)) }.map(drop)
}

pub fn code<T>(result: Result<T, DriverError>) -> u32 {
    result.err().map_or(0, |DriverError(code)| code as u32)
}

pub fn raw(result: CUresult) -> u32 {
    result as u32
}

/// The mode of the tests' captures: global ones would forbid the other tests' threads to allocate.
pub const THREAD_LOCAL: CaptureMode = CaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;

/// y = 2·x captured once.
pub struct Captured {
    pub gpu: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
    pub kernel: CudaFunction,
    pub x: CudaSlice<f32>,
    pub y: CudaSlice<f32>,
}

pub fn ready_to_capture() -> Option<Captured> {
    let gpu = context()?;
    let stream = gpu.new_stream().expect("a stream");
    let kernel = function(&gpu, SCALE, "scale");
    let x = stream.clone_htod(&[1f32, 2.0, 3.0, 4.0]).expect("a copy");
    let y = stream.alloc_zeros::<f32>(4).expect("memory");
    stream.synchronize().expect("done");
    Some(Captured { gpu, stream, kernel, x, y })
}
