//! Whether the blocks of a launch may communicate: whether an instruction by which they could is in reach.
//!
//! Kernels that cut a sum in parts carry the code by which blocks join them in every launch; where the parameters say that
//! there is one part only, no block comes there, and the blocks can run side by side.

use crate::ir::{Inst, Kernel, Op};

/// With these parameters.
pub(super) fn may_communicate(kernel: &Kernel, params: &[u8]) -> bool {
    if !kernel.communicates {
        return false;
    }
    let mut seen = vec![false; kernel.code.len()];
    let mut open = vec![0];
    while let Some(pc) = open.pop() {
        let Some(inst) = kernel.code.get(pc) else { continue };
        if std::mem::replace(&mut seen[pc], true) {
            continue;
        }
        let holds = guard(kernel, pc, params);
        // Some lane may execute it, some lane may not.
        let (executed, passed) = (holds != Some(false), inst.guard.is_some() && holds != Some(true));
        if executed && inst.op.communicates() {
            return true;
        }
        if executed {
            targets(inst, &mut open);
        }
        if passed || !matches!(inst.op, Op::Bra { .. } | Op::Brx { .. } | Op::Exit | Op::Trap) {
            open.push(pc + 1);
        }
    }
    false
}

fn targets(inst: &Inst, open: &mut Vec<usize>) {
    match &inst.op {
        Op::Bra { target } => open.push(*target as usize),
        Op::Brx { targets, .. } => open.extend(targets.iter().map(|&target| target as usize)),
        _ => {}
    }
}

/// What is known of the instruction's guard.
fn guard(kernel: &Kernel, pc: usize, params: &[u8]) -> Option<bool> {
    let place = kernel.uniform_guards.binary_search_by_key(&(pc as u32), |(pc, _)| *pc).ok()?;
    kernel.uniform_guards[place].1.holds(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether blocks may communicate where `body` comes before `JOIN: atom …`, with parameters (7, 1) and (7, 2).
    fn communicate(body: &str) -> (bool, bool) {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .align 8 .b8 s[16]) {{\n\
             .reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %rd<9>;\n\
             ld.param.u64 %rd1, [s+8];\n{body}\nJOIN: atom.global.add.u32 %r8, [%rd1], 1;\nEND: ret;\n}}\n"
        );
        let program = crate::ptx::load(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let params = |count: u32| [7u32, count, 0, 0].map(u32::to_le_bytes).concat();
        (may_communicate(&program.kernels[0], &params(1)), may_communicate(&program.kernels[0], &params(2)))
    }

    #[test]
    fn a_parameter_decides() {
        let only_of_two = (false, true);
        assert_eq!(communicate("ld.param.u32 %r1, [s+4]; setp.lt.u32 %p1, %r1, 2; @%p1 bra END;"), only_of_two);
        assert_eq!(communicate("ld.param.u32 %r1, [s+4]; setp.gt.s32 %p1, %r1, 1; @!%p1 bra END;"), only_of_two);
        assert_eq!(communicate("ld.param.u32 %r1, [s+4]; setp.eq.s32 %p1, %r1, 1; @%p1 ret;"), only_of_two);
        assert_eq!(
            communicate("ld.param.u32 %r1, [s+4]; setp.ge.u32 %p1, %r1, 2; @%p1 bra JOIN; bra END;"),
            only_of_two
        );
        assert_eq!(
            communicate("ld.param.u32 %r1, [s+4]; setp.ne.u32 %p1, %r1, 1; @%p1 membar.gl; bra END;"),
            only_of_two,
            "the guard of the operation itself"
        );
        assert_eq!(
            communicate(
                "mov.b64 %rd2, s; add.s64 %rd3, %rd2, -4; ld.param.v2.u32 {%r1, %r2}, [%rd3+4]; mov.u32 %r3, %r2;\n\
                  setp.lt.u32 %p1, %r3, 2; @%p1 bra END;"
            ),
            only_of_two,
            "by its address, in a vector, copied"
        );
    }

    #[test]
    fn what_is_not_known_may_be() {
        let always = (true, true);
        assert_eq!(communicate(""), always);
        assert_eq!(communicate("mov.u32 %r1, %ctaid.x; setp.lt.u32 %p1, %r1, 2; @%p1 bra END;"), always);
        let written_twice = "ld.param.u32 %r1, [s+4]; setp.lt.u32 %p1, %r1, 2; mov.u32 %r2, %tid.x; @%p1 bra END;";
        assert_eq!(communicate(&written_twice.replace("%r2", "%r1")), always, "a register of several values");
        assert_eq!(
            communicate("ld.param.u32 %r1, [s+4]; setp.lt.u32 %p1, %r1, 2; setp.lt.u32 %p1, %r1, 1; @%p1 bra END;"),
            always,
            "a predicate of several values"
        );
        assert_eq!(
            communicate(
                "mov.u32 %r2, %tid.x; setp.eq.u32 %p2, %r2, 0; ld.param.u32 %r1, [s+4];\n\
                  setp.lt.and.u32 %p1, %r1, 2, %p2; @%p1 bra END;"
            ),
            always,
            "not the parameter alone"
        );
        assert_eq!(
            communicate(
                "mov.u32 %r2, %tid.x; setp.eq.u32 %p2, %r2, 0; @%p2 ld.param.u32 %r1, [s+4];\n\
                  @%p2 setp.lt.u32 %p1, %r1, 2; @%p2 bra END; @%p1 bra END;"
            ),
            always,
            "some lanes have another value"
        );
    }
}
