//! What happens to a product before it is stored.

use serde::{Deserialize, Serialize};

use super::Operand;
use super::tensor::Rows;

/// The function at a product's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Func {
    Identity,
    Relu,
    /// x·Φ(x) by the error function, as PyTorch's default GELU.
    Gelu,
    /// x·σ(1.702 x), CLIP's.
    QuickGelu,
}

/// The function between two head blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    Relu,
    /// Slope 0.01 below zero.
    Lrelu,
    Tanh,
}

/// out = func(product + bias + Σ add).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epilogue {
    /// Rows of the output's shape, or one row per batch item, repeated. Never the output itself.
    pub add: [Option<Rows>; 2],
    pub func: Func,
}

impl Epilogue {
    pub const NONE: Epilogue = Epilogue { add: [None, None], func: Func::Identity };

    pub fn func(func: Func) -> Epilogue {
        Epilogue { add: [None, None], func }
    }

    pub fn add(rows: Rows) -> Epilogue {
        Epilogue { add: [Some(rows), None], func: Func::Identity }
    }

    pub fn and_add(self, rows: Rows) -> Epilogue {
        Epilogue { add: [self.add[0], Some(rows)], func: self.func }
    }

    pub fn then(self, func: Func) -> Epilogue {
        Epilogue { func, ..self }
    }

    pub(super) fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
        self.add.iter_mut().flatten().for_each(|rows| see(Operand::Read(&mut rows.buf)));
    }

    /// " + residual gelu"
    pub fn describe(&self) -> String {
        let func = match self.func {
            Func::Identity => "",
            Func::Relu => " relu",
            Func::Gelu => " gelu",
            Func::QuickGelu => " quick_gelu",
        };
        format!("{}{func}", " + residual".repeat(self.add.iter().flatten().count()))
    }
}
