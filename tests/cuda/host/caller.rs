//! Another user of the GPU in this process: memory, a stream and kernels of its own in the primary context, by the driver's calls
//! alone.

#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::ptr;

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdeviceptr, CUfunction, CUmodule, CUstream};

/// `copy(to, from, bytes, rounds)`: a byte a thread, again and again, so that the whole is there late. `fill(to, value, bytes,
/// rounds)` likewise.
const KERNELS: &str = r"
.version 7.4
.target sm_80
.address_size 64

.visible .entry copy(.param .u64 to, .param .u64 from, .param .u32 bytes, .param .u32 rounds)
{
    .reg .pred %p<3>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<7>;
    ld.param.u64 %rd1, [to];
    ld.param.u64 %rd2, [from];
    ld.param.u32 %r1, [bytes];
    ld.param.u32 %r2, [rounds];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r6, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd1, %rd1;
    cvta.to.global.u64 %rd2, %rd2;
    cvt.u64.u32 %rd3, %r6;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
AGAIN:
    ld.volatile.global.u8 %r7, [%rd5];
    st.volatile.global.u8 [%rd4], %r7;
    sub.u32 %r2, %r2, 1;
    setp.gt.s32 %p2, %r2, 0;
    @%p2 bra AGAIN;
DONE:
    ret;
}

.visible .entry fill(.param .u64 to, .param .u32 value, .param .u32 bytes, .param .u32 rounds)
{
    .reg .pred %p<3>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [to];
    ld.param.u32 %r7, [value];
    ld.param.u32 %r1, [bytes];
    ld.param.u32 %r2, [rounds];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r6, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd1, %rd1;
    cvt.u64.u32 %rd3, %r6;
    add.s64 %rd4, %rd1, %rd3;
AGAIN:
    st.volatile.global.u8 [%rd4], %r7;
    sub.u32 %r2, %r2, 1;
    setp.gt.s32 %p2, %r2, 0;
    @%p2 bra AGAIN;
DONE:
    ret;
}
";

const THREADS: u32 = 128;

pub struct Caller {
    device: CUdevice,
    context: CUcontext,
    module: CUmodule,
    copy: CUfunction,
    fill: CUfunction,
    own: CUstream,
    /// As given to the kernels: what is late on a GPU need not be on one whose streams wait for the host.
    rounds: u32,
}

/// Memory of the caller's on the GPU.
pub struct Bytes<'a> {
    caller: &'a Caller,
    pub address: u64,
    pub len: usize,
}

fn done(result: sys::CUresult) {
    assert_eq!(result, sys::CUresult::CUDA_SUCCESS);
}

impl Caller {
    /// In the primary context of this GPU; the driver is started.
    pub fn new(ordinal: usize, is_virtual: bool) -> Caller {
        let (mut device, mut context, mut module, mut own) = (0, ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        let text = CString::new(KERNELS).unwrap();
        let mut functions = [ptr::null_mut(); 2];
        // SAFETY: valid places and texts throughout, and a context that is current for as long as it is used.
        unsafe {
            done(sys::cuDeviceGet(&mut device, ordinal as i32));
            done(sys::cuDevicePrimaryCtxRetain(&mut context, device));
            done(sys::cuCtxPushCurrent_v2(context));
            done(sys::cuModuleLoadData(&mut module, text.as_ptr().cast()));
            for (function, name) in functions.iter_mut().zip([c"copy", c"fill"]) {
                done(sys::cuModuleGetFunction(function, module, name.as_ptr()));
            }
            done(sys::cuStreamCreate(&mut own, 1));
        }
        let caller = Caller {
            device,
            context,
            module,
            copy: functions[0],
            fill: functions[1],
            own,
            rounds: if is_virtual { 1 } else { 3000 },
        };
        caller.leave();
        caller
    }

    fn enter(&self) {
        // SAFETY: the context is retained.
        done(unsafe { sys::cuCtxPushCurrent_v2(self.context) });
    }

    fn leave(&self) {
        let mut context = ptr::null_mut();
        // SAFETY: a valid place.
        done(unsafe { sys::cuCtxPopCurrent_v2(&mut context) });
    }

    fn inside<T>(&self, what: impl FnOnce() -> T) -> T {
        self.enter();
        let result = what();
        self.leave();
        result
    }

    /// The handle of the stream of its own.
    pub fn stream(&self) -> u64 {
        self.own.expose_provenance() as u64
    }

    pub fn memory(&self, len: usize) -> Bytes<'_> {
        let mut address: CUdeviceptr = 0;
        // SAFETY: a valid place.
        self.inside(|| done(unsafe { sys::cuMemAlloc_v2(&mut address, len) }));
        Bytes { caller: self, address, len }
    }

    /// With these bytes in it, now.
    pub fn bytes(&self, bytes: &[u8]) -> Bytes<'_> {
        let memory = self.memory(bytes.len());
        // SAFETY: so many bytes of both memories.
        self.inside(|| done(unsafe { sys::cuMemcpyHtoD_v2(memory.address, bytes.as_ptr().cast(), bytes.len()) }));
        memory
    }

    /// Queues a kernel on a stream that copies so many bytes, late.
    pub fn copy(&self, to: u64, from: u64, bytes: usize, stream: u64) {
        let (mut to, mut from, mut bytes, mut rounds) = (to, from, bytes as u32, self.rounds);
        let mut parameters =
            [(&raw mut to).cast::<c_void>(), (&raw mut from).cast(), (&raw mut bytes).cast(), (&raw mut rounds).cast()];
        self.launch(self.copy, bytes, stream, &mut parameters);
    }

    /// Queues a kernel on a stream that fills so many bytes, late.
    pub fn fill(&self, to: u64, value: u8, bytes: usize, stream: u64) {
        let (mut to, mut value, mut bytes, mut rounds) = (to, u32::from(value), bytes as u32, self.rounds);
        let mut parameters = [
            (&raw mut to).cast::<c_void>(),
            (&raw mut value).cast(),
            (&raw mut bytes).cast(),
            (&raw mut rounds).cast(),
        ];
        self.launch(self.fill, bytes, stream, &mut parameters);
    }

    fn launch(&self, function: CUfunction, bytes: u32, stream: u64, parameters: &mut [*mut c_void; 4]) {
        let (blocks, extra) = (bytes.div_ceil(THREADS), ptr::null_mut());
        let (stream, parameters) = (raw(stream), parameters.as_mut_ptr());
        // SAFETY: the kernel's parameters; its bytes are the caller's.
        self.inside(|| unsafe {
            done(sys::cuLaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, stream, parameters, extra));
        });
    }

    /// Waits for a stream.
    pub fn wait(&self, stream: u64) {
        // SAFETY: a stream that lives.
        self.inside(|| done(unsafe { sys::cuStreamSynchronize(raw(stream)) }));
    }

    /// What is queued on the stream from now on is captured; the graph that comes of it is thrown away.
    pub fn captured(&self, what: impl FnOnce()) {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
        // SAFETY: a stream that lives.
        self.inside(|| done(unsafe { sys::cuStreamBeginCapture_v2(self.own, mode) }));
        what();
        let mut graph = ptr::null_mut();
        // SAFETY: a stream that is captured, and a valid place. The capture is whole.
        self.inside(|| done(unsafe { sys::cuStreamEndCapture(self.own, &mut graph) }));
        // SAFETY: a graph that was just made.
        self.inside(|| done(unsafe { sys::cuGraphDestroy(graph) }));
    }
}

fn raw(stream: u64) -> CUstream {
    ptr::with_exposed_provenance_mut(stream as usize)
}

impl Bytes<'_> {
    /// Now, behind what is queued on a stream.
    pub fn read(&self, stream: u64) -> Vec<u8> {
        self.caller.wait(stream);
        let mut bytes = vec![0u8; self.len];
        let to = bytes.as_mut_ptr().cast();
        // SAFETY: so many bytes of both memories.
        self.caller.inside(|| done(unsafe { sys::cuMemcpyDtoH_v2(to, self.address, self.len) }));
        bytes
    }
}

impl Drop for Bytes<'_> {
    fn drop(&mut self) {
        // SAFETY: allocated once; a context that was lost has nothing to free.
        let _ = self.caller.inside(|| unsafe { sys::cuMemFree_v2(self.address) });
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // SAFETY: each was made once; a context that was lost has nothing to give back.
        unsafe {
            let _ = sys::cuCtxPushCurrent_v2(self.context);
            let _ = sys::cuStreamDestroy_v2(self.own);
            let _ = sys::cuModuleUnload(self.module);
            let _ = sys::cuCtxPopCurrent_v2(&mut ptr::null_mut());
            let _ = sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}
