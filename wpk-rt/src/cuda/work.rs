//! What the steps of a plan start: generated kernels, or calls of libraries that stand in for them.

use super::driver::{Buffer, Context, Stream};
use super::function::Function;
use super::graph::Work;
use super::library::{Libraries, Prepared};
use crate::Error;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wpk_plan::{Arg, GpuPlans, Module, Place, Step};

/// A module, ready.
pub enum Ready {
    Kernel(Function),
    Call(Box<Prepared>),
}

impl Ready {
    /// The argument that it takes in another form than it is stored in.
    fn converts(&self, module: &Module) -> Option<usize> {
        match self {
            Self::Kernel(_) => module.parts.as_ref().map(|p| p.argument as usize),
            Self::Call(call) => call.converted.map(|c| c.0),
        }
    }
}

/// Every module of some plans, and why calls are not used where they are not.
pub struct Loaded {
    list: Vec<Ready>,
    /// By weight section and module, the weights that a call reads in a type of its own, or a kernel in parts.
    converted: BTreeMap<(u32, u32), Buffer>,
    pub refused: Vec<String>,
}

impl Loaded {
    /// Prepares calls and loads the other modules.
    pub fn new(context: &Arc<Context>, plans: &GpuPlans) -> Result<Self, Error> {
        let (mut calls, mut refused) = (BTreeMap::new(), vec![]);
        let libraries = Libraries::new(context);
        for (i, call) in plans.modules.iter().enumerate().filter_map(|(i, m)| Some((i, m.call.as_ref()?))) {
            let prepared = libraries.prepare(call).and_then(|p| match p.call().workspace <= call.workspace {
                true => Ok(p),
                false => Err(Error::Device(format!("{} needs more memory than when it was chosen", call.library))),
            });
            match prepared {
                Ok(prepared) => drop(calls.insert(i, prepared)),
                Err(reason) => refused.push(format!("{}: {reason}", plans.modules[i].entry)),
            }
        }
        let kernels = kernels(context, &plans.modules, |i| !calls.contains_key(&i))?;
        let mut list: Vec<(usize, Ready)> = kernels.into_iter().map(|(i, f)| (i, Ready::Kernel(f))).collect();
        list.extend(calls.into_iter().map(|(i, p)| (i, Ready::Call(Box::new(p)))));
        list.sort_by_key(|l| l.0);
        Ok(Self { list: list.into_iter().map(|l| l.1).collect(), converted: BTreeMap::new(), refused })
    }

    /// Makes the weights that calls read in types of their own, and kernels in parts.
    pub fn convert<'a>(
        &mut self,
        context: &Arc<Context>,
        (steps, modules): (&[Step], &[Module]),
        section: impl Fn(u32) -> (wpk_plan::DType, &'a [u8]),
    ) -> Result<(), Error> {
        let mut apart = BTreeMap::new();
        for step in steps {
            let wpk_plan::Kernel::Gpu(_, _, module) = step.kernel else { continue };
            let Some(argument) = self.list.get(module as usize).and_then(|r| r.converts(&modules[module as usize])) else { continue };
            let Some(Arg { place: Place::Weight(i), .. }) = step.args.get(argument) else {
                return Err(Error::Invalid(format!("what is no weight is converted ({})", step.origin)));
            };
            let key = (*i, module);
            if self.converted.contains_key(&key) {
                continue;
            }
            let (dtype, bytes) = section(*i);
            match (&self.list[module as usize], &modules[module as usize].parts) {
                (Ready::Call(call), _) => self.converted.extend(call.convert(context, dtype, bytes)?.map(|b| (key, b))),
                (Ready::Kernel(_), parts) => apart.extend(parts.as_ref().map(|p| (key, (p, bytes)))),
            }
        }
        let apart: Vec<_> = apart.into_iter().collect();
        let make = |i: usize| apart[i].1.0.of(apart[i].1.1).ok_or_else(|| Error::Invalid("weights in parts are no panels".to_owned()));
        // As many at a time as threads: all of them would be kept twice.
        for first in (0..apart.len()).step_by(MOST) {
            let order: Vec<usize> = (first..apart.len().min(first + MOST)).collect();
            for (i, made) in in_threads(&order, make)? {
                self.converted.insert(apart[i].0, Buffer::of(context, &made)?);
            }
        }
        Ok(())
    }

    /// Puts what was made of an argument's weight in its place.
    fn replace(&self, step: &Step, number: u32, modules: &[Module], pointers: &mut [u64]) {
        if let Some(argument) = self.list[number as usize].converts(&modules[number as usize])
            && let Place::Weight(i) = step.args[argument].place
            && let Some(buffer) = self.converted.get(&(i, number))
        {
            pointers[argument] = buffer.pointer;
        }
    }

    /// What a step starts, with its pointers and the memory behind them.
    pub fn work(&self, step: &Step, modules: &[Module], pointer: impl Fn(Place) -> Result<u64, Error>) -> Result<Work<'_>, Error> {
        let wpk_plan::Kernel::Gpu(_, _, number) = step.kernel else {
            return Err(Error::Invalid(format!("a CPU kernel in a GPU plan ({})", step.origin)));
        };
        let module = &modules[number as usize];
        match &self.list[number as usize] {
            Ready::Kernel(function) => {
                let mut pointers = step.arguments(module).iter().map(|a| pointer(a.place)).collect::<Result<Vec<_>, _>>()?;
                self.replace(step, number, modules, &mut pointers);
                Ok(Work::Kernel(function, pointers))
            }
            Ready::Call(call) => {
                let operands = &step.args[..step.operand_count()];
                let mut pointers = operands.iter().map(|a| pointer(a.place)).collect::<Result<Vec<_>, _>>()?;
                self.replace(step, number, modules, &mut pointers);
                let workspace = step.workspace(module).map_or(Ok(0), |a| pointer(a.place))?;
                Ok(Work::Call(call, pointers, workspace))
            }
        }
    }
}

impl Work<'_> {
    /// Starts it by itself.
    pub fn start(&self, stream: &Stream) -> Result<(), Error> {
        match self {
            Self::Kernel(function, pointers) => stream.run(function, pointers),
            Self::Call(call, pointers, workspace) => call.run(pointers, *workspace, stream),
        }
    }
}

/// The kernels of some modules: those without a cubin for the device compiled together where the driver can, all else several at a time.
fn kernels(context: &Arc<Context>, modules: &[Module], wanted: impl Fn(usize) -> bool) -> Result<Vec<(usize, Function)>, Error> {
    let capability = context.capability()?;
    let compiled = |i: &usize| modules[*i].cubins.iter().any(|c| c.capability == capability);
    let (mut single, texts): (Vec<usize>, Vec<usize>) = (0..modules.len()).filter(|&i| wanted(i)).partition(compiled);
    let mut all = vec![];
    match Function::load_together(context, &texts.iter().map(|&i| &modules[i]).collect::<Vec<_>>()) {
        Some(functions) => all.extend(texts.into_iter().zip(functions)),
        None => single.extend(texts),
    }
    all.extend(apart(context, modules, &mut single)?);
    Ok(all)
}

/// Loads modules by themselves, several at a time, the longest texts first.
fn apart(context: &Arc<Context>, modules: &[Module], order: &mut [usize]) -> Result<Vec<(usize, Function)>, Error> {
    order.sort_by_key(|&i| Reverse(modules[i].text.len()));
    in_threads(order, |i| Function::load(context, &modules[i]))
}

/// Threads at most.
const MOST: usize = 16;

/// What is made of each number, by several threads.
fn in_threads<T: Send>(order: &[usize], make: impl Fn(usize) -> Result<T, Error> + Sync) -> Result<Vec<(usize, T)>, Error> {
    let next = AtomicUsize::new(0);
    let some = || -> Result<Vec<(usize, T)>, Error> {
        let turn = || order.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(turn).map(|&i| Ok((i, make(i)?))).collect()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST).min(order.len());
    let made: Result<Vec<_>, Error> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        all.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(Error::Device("a thread that loads kernels ended".to_owned())))).collect()
    });
    Ok(made?.into_iter().flatten().collect())
}
