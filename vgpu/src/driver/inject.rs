//! Failures on order: what a program does when a call of the driver fails, or the GPU never ends its work, is seen only where
//! that happens.

use std::collections::HashMap;

use super::Machine;
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::stream::Stream;
use super::work::Work;

/// One failure of VGPU_FAIL: "cuGraphLaunch:2:700!".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    function: String,
    /// At which call of the function since cuInit, from 1.
    call: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// This call answers with a code, and does nothing.
    Answer(Code),
    /// The same, and every later call of the thread's context does.
    End(Code),
    /// What this call queues never ends.
    Hang,
}

/// The list in VGPU_FAIL.
pub fn orders(text: &str) -> Result<Vec<Order>, String> {
    text.split(',').filter(|part| !part.is_empty()).map(order).collect()
}

fn order(text: &str) -> Result<Order, String> {
    let what = |text: &str| match text.strip_suffix('!') {
        Some(code) => Some(What::End(Code(code.parse().ok()?))),
        None if text == "hang" => Some(What::Hang),
        None => Some(What::Answer(Code(text.parse().ok()?))),
    };
    let read = || {
        let (function, rest) = text.split_once(':')?;
        let (call, then) = rest.split_once(':')?;
        Some(Order {
            function: function.to_owned(),
            call: call.parse().ok().filter(|call| *call > 0)?,
            what: what(then)?,
        })
    };
    read().ok_or_else(|| {
        format!("VGPU_FAIL={text} is not known; write FUNCTION:CALL:CODE, FUNCTION:CALL:CODE! or FUNCTION:CALL:hang")
    })
}

/// The calls so far of the functions that have orders.
#[derive(Default)]
pub struct Calls(HashMap<String, u64>);

impl Machine {
    /// Before a function's body: the failure that is ordered for this call. Whether its work is to hang.
    pub(super) fn injected(&mut self, function: &str) -> Outcome<bool> {
        if !self.fail.iter().any(|order| order.function == function) {
            return Ok(false);
        }
        let calls = self.calls.0.entry(function.to_owned()).or_default();
        *calls += 1;
        let due = |order: &&Order| order.function == function && order.call == *calls;
        let Some(what) = self.fail.iter().find(due).map(|order| order.what) else { return Ok(false) };
        match what {
            What::Hang => Ok(true),
            What::Answer(code) => fail(code, "fails on order"),
            What::End(code) => {
                if let Ok(context) = self.thread_context() {
                    self.kill(context, code, String::new());
                }
                fail(code, "fails on order, and its context with it")
            }
        }
    }

    /// Puts work that never ends behind what the thread's context has queued.
    pub(super) fn hang(&mut self) -> Outcome {
        let context = self.current()?;
        let busy = self.streams.iter().filter(|(_, stream)| stream.context == context && stream.issued() > 0);
        let busy: Vec<Handle<Stream>> = busy.map(|(handle, _)| handle).collect();
        busy.into_iter().try_for_each(|stream| self.enqueue(stream, Work::Hang, Vec::new()))
    }
}
