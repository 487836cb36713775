//! Functions of the application: custom operators on the CPU.

use super::{Bound, Cx};
use std::ffi::c_void;
use wpk_plan::problem::Custom;

/// What computes a custom operator: pointers to its inputs, and to its outputs.
pub type Run = unsafe extern "C" fn(*const *const c_void, *const *mut c_void);

/// A function that the application links for a custom operator.
#[derive(Debug, Clone, Copy)]
pub struct CustomFunction {
    symbol: &'static str,
    run: Run,
}

impl CustomFunction {
    /// The function of a symbol.
    ///
    /// # Safety
    /// It must read and write no more than the dense operands of the operator that the plan calls by this symbol, and may be called by
    /// several threads at once.
    pub const unsafe fn new(symbol: &'static str, run: Run) -> Self {
        Self { symbol, run }
    }
}

struct Bind {
    run: Run,
    inputs: usize,
}

impl Bound for Bind {
    unsafe fn run(&self, args: &[*mut u8], _: &Cx<'_>) {
        let (inputs, outputs) = args.split_at(self.inputs);
        // The arguments are as many as the problem's operands; the function keeps to them by its contract.
        unsafe { (self.run)(inputs.as_ptr().cast(), outputs.as_ptr().cast()) }
    }
}

pub(super) fn bind(p: &Custom, functions: &[CustomFunction]) -> Result<Box<dyn Bound>, String> {
    let found = functions.iter().find(|f| f.symbol == p.symbol);
    let run =
        found.map(|f| f.run).ok_or_else(|| format!("{}: no function {} is linked: compile the model in build.rs", p.name, p.symbol))?;
    Ok(Box::new(Bind { run, inputs: p.reads.len() }))
}
