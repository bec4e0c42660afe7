//! Contexts: the primary one and others; which is current on a thread; their death.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::boundary::{In, Out};
use super::device::Device;
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::memory::Allocation;
use super::stream::Stream;
use super::{Machine, driver_functions};
use crate::counts::Counts;

pub struct Context {
    /// The ordinal of its device.
    pub device: usize,
    flags: u32,
    /// CUlimit by number.
    limits: BTreeMap<u32, usize>,
    cache_config: u32,
    pub default_stream: Handle<Stream>,
    /// Device memory for the barriers of cooperative launches, once there was one.
    pub workspace: Option<u64>,
    /// The code of the fault that killed it: the answer to everything from then on.
    dead: Option<Code>,
    /// That fault's report.
    pub fault: Option<String>,
    /// Of the last launch that ended well.
    pub counts: Option<(String, Counts)>,
}

/// The context of a device that everybody shares, while somebody retains it.
#[derive(Default)]
pub struct Primary {
    context: Option<Handle<Context>>,
    retained: u32,
    flags: u32,
}

thread_local! {
    /// Innermost last.
    static STACK: RefCell<Vec<Handle<Context>>> = const { RefCell::new(Vec::new()) };
}

/// CUlimit: stack, printf buffer, heap, depth of device-side synchronisation, pending launches, fetch granularity,
/// persisting cache; with CUDA's defaults.
const LIMITS: [(u32, usize); 7] = [(0, 1024), (1, 1 << 20), (2, 8 << 20), (3, 2), (4, 2048), (5, 64), (6, 0)];

impl Context {
    fn new(device: usize, flags: u32) -> Context {
        Context {
            device,
            flags,
            limits: LIMITS.into(),
            cache_config: 0,
            default_stream: Handle::NULL,
            workspace: None,
            dead: None,
            fault: None,
            counts: None,
        }
    }
}

impl Machine {
    fn new_context(&mut self, device: usize, flags: u32) -> Handle<Context> {
        let context = self.contexts.insert(Context::new(device, flags));
        let stream = self.streams.insert(Stream::new(context, true, 0));
        if let Some(new) = self.contexts.find_mut(context) {
            new.default_stream = stream;
        }
        context
    }

    fn destroy_context(&mut self, context: Handle<Context>) -> Outcome {
        self.empty_context(context)?;
        self.contexts.remove(context)?;
        Ok(())
    }

    /// Everything that was made in it goes.
    fn empty_context(&mut self, context: Handle<Context>) -> Outcome {
        let device = self.contexts.get(context)?.device;
        let (gone, kept): (BTreeMap<u64, Allocation>, _) =
            std::mem::take(&mut self.allocations).into_iter().partition(|(_, a)| a.context == context);
        self.allocations = kept;
        gone.into_keys().try_for_each(|address| self.devices[device].memory.free(address))?;
        self.streams.retain(|s| s.context != context);
        self.thread_streams.retain(|&(of, _), _| of != context.0);
        self.events.retain(|e| e.context != context);
        self.captures.retain(|c| c.context != context);
        self.modules.retain(|m| m.context != context);
        self.functions.retain(|f| f.context != context);
        self.graph_execs.retain(|g| g.context != context);
        self.host_blocks.retain(|_, b| b.context != context);
        Ok(())
    }

    /// As new, under the same handle.
    fn reset_context(&mut self, context: Handle<Context>) -> Outcome {
        self.empty_context(context)?;
        let Context { device, flags, .. } = *self.contexts.get(context)?;
        let default_stream = self.streams.insert(Stream::new(context, true, 0));
        *self.contexts.get_mut(context)? = Context { default_stream, ..Context::new(device, flags) };
        Ok(())
    }

    /// The thread's context, dead or alive.
    pub(super) fn thread_context(&self) -> Outcome<Handle<Context>> {
        match STACK.with_borrow(|stack| stack.last().copied()) {
            Some(context) => Ok(context),
            None => fail(Code::INVALID_CONTEXT, "no context is current on this thread"),
        }
    }

    /// The thread's context, alive.
    pub(super) fn current(&self) -> Outcome<Handle<Context>> {
        let context = self.thread_context()?;
        self.check_alive(context)?;
        Ok(context)
    }

    /// It exists and no fault killed it.
    pub(super) fn check_alive(&self, context: Handle<Context>) -> Outcome {
        match self.contexts.find(context) {
            None => fail(Code::CONTEXT_IS_DESTROYED, format!("context {context:?} was destroyed")),
            Some(Context { dead: Some(code), .. }) => Err((*code).into()),
            Some(_) => Ok(()),
        }
    }

    /// A fault: what is queued in the context is never executed.
    pub(super) fn kill(&mut self, context: Handle<Context>, code: Code, report: String) {
        for stream in self.streams.values_mut().filter(|s| s.context == context) {
            stream.clear();
        }
        if let Some(context) = self.contexts.find_mut(context) {
            context.dead = Some(code);
            context.fault = Some(report);
        }
    }

    fn new_current_context(&mut self, answer: &Out<Handle<Context>>, flags: u32, device: i32) -> Outcome {
        let device = self.device(device)?.ordinal;
        check_flags(flags)?;
        if answer.is_null() {
            return fail(Code::INVALID_VALUE, "null pointer where the context should go");
        }
        let context = self.new_context(device, flags);
        STACK.with_borrow_mut(|stack| stack.push(context));
        answer.write(context)
    }

    fn synchronize_context(&mut self, context: Handle<Context>) -> Outcome {
        self.refuse_in_capture(context, "synchronising the context")?;
        self.run_context(context)
    }
}

/// CU_CTX_SCHED_*, of which one may be chosen: spin, yield, blocking.
const SCHEDULES: [u32; 4] = [0, 1, 2, 4];
/// CU_CTX_MAP_HOST, _LMEM_RESIZE_TO_MAX, _COREDUMP_ENABLE, _USER_COREDUMP_ENABLE, _SYNC_MEMOPS.
const OTHER_FLAGS: u32 = 0xf8;

fn check_flags(flags: u32) -> Outcome {
    if SCHEDULES.contains(&(flags & !OTHER_FLAGS)) {
        Ok(())
    } else {
        fail(Code::INVALID_VALUE, format!("context flags {flags:#x} are not known, or choose two schedules"))
    }
}

driver_functions! {
    table table;

    fn cuDevicePrimaryCtxRetain(machine, answer: Out<Handle<Context>>, device: i32) {
        let Device { ordinal, primary, .. } = machine.device(device)?;
        let context = match primary.context {
            Some(context) => context,
            None => machine.new_context(*ordinal, primary.flags),
        };
        let primary = &mut machine.device_mut(device)?.primary;
        primary.context = Some(context);
        primary.retained += 1;
        answer.write(context)
    }

    fn cuDevicePrimaryCtxRelease_v2(machine, device: i32) {
        let primary = &mut machine.device_mut(device)?.primary;
        let Some(context) = primary.context.filter(|_| primary.retained > 0) else {
            return fail(Code::INVALID_CONTEXT, "the primary context is not retained");
        };
        primary.retained -= 1;
        if primary.retained == 0 {
            primary.context = None;
            machine.destroy_context(context)?;
        }
        Ok(())
    }

    /// The primary context loses all that it holds, a fault too, whoever retains it.
    fn cuDevicePrimaryCtxReset_v2(machine, device: i32) {
        match machine.device(device)?.primary.context {
            Some(context) => machine.reset_context(context),
            None => Ok(()),
        }
    }

    fn cuDevicePrimaryCtxGetState(machine, device: i32, flags: Out<u32>, active: Out<i32>) {
        let primary = &machine.device(device)?.primary;
        flags.write(primary.flags)?;
        active.write(i32::from(primary.context.is_some()))
    }

    fn cuDevicePrimaryCtxSetFlags_v2(machine, device: i32, flags: u32) {
        let primary = &mut machine.device_mut(device)?.primary;
        check_flags(flags)?;
        primary.flags = flags;
        if let Some(context) = primary.context {
            machine.contexts.get_mut(context)?.flags = flags;
        }
        Ok(())
    }

    fn cuCtxCreate_v2(machine, answer: Out<Handle<Context>>, flags: u32, device: i32) {
        machine.new_current_context(&answer, flags, device)
    }

    /// Without affinities.
    fn cuCtxCreate_v3(
        machine,
        answer: Out<Handle<Context>>,
        _affinities: In<u8>,
        count: i32,
        flags: u32,
        device: i32,
    ) {
        if count != 0 {
            return fail(Code::NOT_SUPPORTED, "execution affinities are not emulated");
        }
        machine.new_current_context(&answer, flags, device)
    }

    /// Without parameters.
    fn cuCtxCreate_v4(machine, answer: Out<Handle<Context>>, parameters: In<u8>, flags: u32, device: i32) {
        if !parameters.is_null() {
            return fail(Code::NOT_SUPPORTED, "context parameters (affinities, graphics) are not emulated");
        }
        machine.new_current_context(&answer, flags, device)
    }

    fn cuCtxDestroy_v2(machine, context: Handle<Context>) {
        if machine.devices.iter().any(|device| device.primary.context == Some(context)) {
            return fail(Code::INVALID_CONTEXT, "the primary context is released, not destroyed");
        }
        // Only work that never ends is waited for: nobody can see the rest.
        if machine.streams.iter().any(|(_, s)| s.context == context && s.hangs()) {
            return Err(Code::HUNG.into());
        }
        machine.destroy_context(context)?;
        STACK.with_borrow_mut(|stack| {
            if stack.last() == Some(&context) {
                stack.pop();
            }
        });
        Ok(())
    }

    fn cuCtxSetCurrent(machine, context: Handle<Context>) {
        if context != Handle::NULL {
            machine.contexts.get(context)?;
        }
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            if context != Handle::NULL {
                stack.push(context);
            }
        });
        Ok(())
    }

    fn cuCtxGetCurrent(_machine, answer: Out<Handle<Context>>) {
        answer.write(STACK.with_borrow(|stack| stack.last().copied()).unwrap_or(Handle::NULL))
    }

    fn cuCtxPushCurrent_v2(machine, context: Handle<Context>) {
        machine.contexts.get(context)?;
        STACK.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    }

    fn cuCtxPopCurrent_v2(_machine, answer: Out<Handle<Context>>) {
        match STACK.with_borrow_mut(Vec::pop) {
            Some(context) => {
                answer.write_if_wanted(context);
                Ok(())
            }
            None => fail(Code::INVALID_CONTEXT, "no context is current on this thread"),
        }
    }

    fn cuCtxSynchronize(machine) {
        let context = machine.current()?;
        machine.synchronize_context(context)
    }

    fn cuCtxSynchronize_v2(machine, context: Handle<Context>) {
        let context = if context == Handle::NULL { machine.current()? } else { context };
        machine.check_alive(context)?;
        machine.synchronize_context(context)
    }

    fn cuCtxGetDevice(machine, device: Out<i32>) {
        let context = machine.current()?;
        device.write(machine.device_of(context)?.ordinal as i32)
    }

    fn cuCtxGetFlags(machine, flags: Out<u32>) {
        let context = machine.current()?;
        flags.write(machine.contexts.get(context)?.flags)
    }

    fn cuCtxSetFlags(machine, flags: u32) {
        check_flags(flags)?;
        let context = machine.current()?;
        machine.contexts.get_mut(context)?.flags = flags;
        Ok(())
    }

    /// The newest interface that it speaks.
    fn cuCtxGetApiVersion(machine, context: Handle<Context>, version: Out<u32>) {
        let context = if context == Handle::NULL { machine.current()? } else { context };
        machine.contexts.get(context)?;
        version.write(3020)
    }

    fn cuCtxGetLimit(machine, value: Out<usize>, limit: u32) {
        let context = machine.current()?;
        match machine.contexts.get(context)?.limits.get(&limit) {
            Some(&found) => value.write(found),
            None => fail(Code::UNSUPPORTED_LIMIT, format!("limit {limit} is not known")),
        }
    }

    /// Kept and given back; nothing here is limited by it.
    fn cuCtxSetLimit(machine, limit: u32, value: usize) {
        let context = machine.current()?;
        match machine.contexts.get_mut(context)?.limits.get_mut(&limit) {
            Some(kept) => {
                *kept = value;
                Ok(())
            }
            None => fail(Code::UNSUPPORTED_LIMIT, format!("limit {limit} is not known")),
        }
    }

    fn cuCtxGetCacheConfig(machine, config: Out<u32>) {
        let context = machine.current()?;
        config.write(machine.contexts.get(context)?.cache_config)
    }

    fn cuCtxSetCacheConfig(machine, config: u32) {
        let context = machine.current()?;
        machine.contexts.get_mut(context)?.cache_config = config;
        Ok(())
    }

    /// Lowest priority 0, highest −5.
    fn cuCtxGetStreamPriorityRange(machine, least: Out<i32>, greatest: Out<i32>) {
        machine.current()?;
        least.write_if_wanted(0);
        greatest.write_if_wanted(-5);
        Ok(())
    }
}
