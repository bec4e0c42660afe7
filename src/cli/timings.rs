//! Each operation's cost and measured time side by side.

use crate::plan_report::OpTiming;
use serde::Serialize;

use super::table::{Align, Table};

#[derive(Serialize)]
pub struct Timings {
    /// GFLOP/s of the machine at a large matrix product.
    matmul_gflops: f64,
    operations: Vec<OperationTime>,
}

#[derive(Serialize)]
struct OperationTime {
    scope: String,
    operation: &'static str,
    shapes: String,
    gflop: f64,
    milliseconds: f64,
    /// GFLOP a second.
    gflops: f64,
    /// `gflops` as a fraction of the machine's matmul rate.
    matmul_share: f64,
}

impl Timings {
    /// `rate` in FLOP a second.
    pub fn new(rate: f64, timings: &[OpTiming]) -> Timings {
        let matmul_gflops = rate / 1e9;
        let operation = |OpTiming { op, seconds }: &OpTiming| {
            let gflops = speed(op.gflop, *seconds);
            OperationTime {
                scope: op.scope.clone(),
                operation: op.op,
                shapes: op.shapes.clone(),
                gflop: op.gflop,
                milliseconds: 1000.0 * seconds,
                gflops,
                matmul_share: gflops / matmul_gflops,
            }
        };
        Timings { matmul_gflops, operations: timings.iter().map(operation).collect() }
    }

    /// The operations as executed, then the sums of each kind, the longest first.
    pub fn render(&self) -> String {
        use Align::{Left, Right};
        let mut table = Table::headed(
            [Right, Left, Left, Left, Right, Right, Right, Right],
            ["#", "scope", "operation", "shapes", "GFLOP", "ms", "GFLOP/s", "of matmul"],
        );
        for (i, op) in self.operations.iter().enumerate() {
            let [gflop, ms, gflops, share] = self.cells(op.gflop, op.milliseconds);
            let (scope, shapes) = (op.scope.clone(), op.shapes.clone());
            table.row([i.to_string(), scope, op.operation.into(), shapes, gflop, ms, gflops, share]);
        }
        let mut kinds = Table::headed(
            [Left, Right, Right, Right, Right, Right, Right],
            ["operation", "calls", "GFLOP", "ms", "GFLOP/s", "of matmul", "of time"],
        );
        let all = self.kinds();
        let total = all.iter().fold(Kind::new("total"), Kind::and);
        for kind in all.iter().chain([&total]) {
            let [gflop, ms, gflops, share] = self.cells(kind.gflop, kind.milliseconds);
            let of_time = format!("{:.1} %", 100.0 * kind.milliseconds / total.milliseconds);
            kinds.row([kind.operation.into(), kind.calls.to_string(), gflop, ms, gflops, share, of_time]);
        }
        format!(
            "Operations as executed. This machine multiplies matrices at {:.1} GFLOP/s: 1024×1024 · 1024→1024 through\n\
             the same device, the fastest product in 0.1 s before the first photo and 0.1 s after each. FLOP as the\n\
             network defines them, so that a method that needs fewer can pass 100 %.\n{}\n{}\n",
            self.matmul_gflops,
            table.render(),
            kinds.render()
        )
    }

    fn cells(&self, gflop: f64, milliseconds: f64) -> [String; 4] {
        let gflops = speed(gflop, milliseconds / 1000.0);
        let share = format!("{:.0} %", 100.0 * gflops / self.matmul_gflops);
        [format!("{gflop:.3}"), format!("{milliseconds:.2}"), format!("{gflops:.1}"), share]
    }

    /// The longest first.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = Vec::new();
        for op in &self.operations {
            let one = Kind { operation: op.operation, calls: 1, gflop: op.gflop, milliseconds: op.milliseconds };
            match kinds.iter_mut().find(|kind| kind.operation == op.operation) {
                Some(kind) => *kind = kind.and(&one),
                None => kinds.push(one),
            }
        }
        kinds.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
        kinds
    }
}

#[derive(Clone, Copy)]
struct Kind {
    operation: &'static str,
    calls: usize,
    gflop: f64,
    milliseconds: f64,
}

impl Kind {
    fn new(operation: &'static str) -> Kind {
        Kind { operation, calls: 0, gflop: 0.0, milliseconds: 0.0 }
    }

    fn and(self, other: &Kind) -> Kind {
        Kind {
            operation: self.operation,
            calls: self.calls + other.calls,
            gflop: self.gflop + other.gflop,
            milliseconds: self.milliseconds + other.milliseconds,
        }
    }
}

/// GFLOP a second; 0 where no time was seen to pass.
fn speed(gflop: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { gflop / seconds } else { 0.0 }
}
