//! Loops, and statements where a predicate holds.

use super::{Val, Writer};
use crate::ptx::{Operand, Stmt, Ty};

impl Writer {
    /// Statements for every number below `count`.
    pub fn repeat(&mut self, count: u32, body: impl FnOnce(&mut Self, Val)) {
        let count = self.int(i64::from(count), Ty::U32);
        self.repeat_for(count, body);
    }

    /// The same for what hardly ever runs: the assembler leaves it a loop.
    pub fn repeat_rolled(&mut self, count: u32, body: impl FnOnce(&mut Self, Val)) {
        self.repeat(count, body);
        if let Some(Stmt::Loop { rolled, .. }) = self.blocks.last_mut().and_then(|block| block.last_mut()) {
            *rolled = true;
        }
    }

    /// The same where all threads of a warp agree on a count, maybe of none.
    pub fn repeat_for(&mut self, count: Val, body: impl FnOnce(&mut Self, Val)) {
        let (counter, test) = (self.fresh(Ty::U32), self.fresh(Ty::Pred));
        self.blocks.push(vec![]);
        body(self, Val { ty: Ty::U32, operand: Operand::Reg(counter) });
        let body = self.blocks.pop().unwrap_or_default();
        self.say(Stmt::Loop { counter, test, count: count.operand, rolled: false, body });
    }

    /// Statements where a predicate holds, or always where there is none.
    pub fn when_some(&mut self, p: Option<Val>, then: impl FnOnce(&mut Self)) {
        match p {
            Some(p) => self.when(p, then),
            None => then(self),
        }
    }

    /// Statements for the warps where a predicate holds, on which all threads of a warp agree.
    pub fn when_warp(&mut self, p: Val, then: impl FnOnce(&mut Self)) {
        let (one, none) = (self.int(1, Ty::U32), self.int(0, Ty::U32));
        let times = self.select(p, one, none);
        self.repeat_for(times, |k, _| then(k));
    }

    /// What is loaded where a predicate holds, if there is one, else zeros. Nothing but loads should be conditional: what is computed there waits for them, and
    /// `ptxas` keeps later loads behind it.
    pub fn loaded_where(&mut self, p: Option<Val>, load: impl FnOnce(&mut Self) -> Vec<Val>) -> Vec<Val> {
        let Some(p) = p else { return load(self) };
        self.blocks.push(vec![]);
        let loaded = load(self);
        let body = self.blocks.pop().unwrap_or_default();
        let zero = |v: &Val| Val { ty: v.ty, operand: Operand::Imm(0) };
        let values: Vec<Val> = loaded.iter().map(|v| self.variable(zero(v))).collect();
        self.when(p, |k| {
            body.into_iter().for_each(|s| k.say(s));
            values.iter().zip(loaded).for_each(|(&to, v)| k.assign(to, v));
        });
        values
    }

    /// Statements for the threads where a predicate holds.
    pub fn when(&mut self, p: Val, then: impl FnOnce(&mut Self)) {
        self.blocks.push(vec![]);
        then(self);
        let then = self.blocks.pop().unwrap_or_default();
        if let Operand::Reg(condition) = p.operand {
            self.say(Stmt::If { condition, then });
        }
    }
}
