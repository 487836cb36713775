//! Single kernels on a device, for those that search: compiled in parallel, run, and timed as graphs of launches.

use super::driver::{Buffer, Context, Graph, Stream, open};
use super::function::{Function, link};
use crate::Error;
use std::sync::Arc;
use wpk_plan::{Cubin, Edge, EdgeKind, Module};

/// The CUDA version that the driver is for, as 12040 for 12.4, and how many devices it shows.
///
/// # Errors
/// Where there is no driver, or it is too old.
pub fn driver() -> Result<(i32, usize), Error> {
    open()
}

pub use super::runs;

/// A device to measure on.
pub struct Bench {
    context: Arc<Context>,
    stream: Stream,
}

/// Device memory that kernels read and write.
pub struct Memory(Buffer);

/// A compiled kernel.
pub struct Loaded(Function);

impl Bench {
    /// Opens a device by number.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn new(ordinal: usize) -> Result<Self, Error> {
        let context = Context::new(ordinal)?;
        Ok(Self { stream: Stream::new(&context)?, context })
    }

    /// The device's name.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn name(&self) -> Result<String, Error> {
        self.context.name()
    }

    /// The device's compute capability, as 90 for 9.0.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn capability(&self) -> Result<u32, Error> {
        self.context.capability()
    }

    /// Device memory with a copy of some bytes.
    ///
    /// # Errors
    /// Where there is not enough.
    pub fn memory(&self, bytes: &[u8]) -> Result<Memory, Error> {
        Buffer::of(&self.context, bytes).map(Memory)
    }

    /// Device memory of some bytes, all zero.
    ///
    /// # Errors
    /// Where there is not enough.
    pub fn room(&self, bytes: usize) -> Result<Memory, Error> {
        Buffer::new(&self.context, bytes).map(Memory)
    }

    /// The bytes in some memory.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn read(&self, memory: &Memory) -> Result<Vec<u8>, Error> {
        memory.0.read()
    }

    /// Compiles modules, several at a time; each may fail by itself.
    pub fn load(&self, modules: &[Module]) -> Vec<Result<Loaded, Error>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let size = modules.len().div_ceil(threads).max(1);
        let context = &self.context;
        let one = move |m: &Module| Function::load(context, m).map(Loaded);
        std::thread::scope(|scope| {
            let parts: Vec<_> = modules.chunks(size).map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>())).collect();
            parts.into_iter().flat_map(|p| p.join().unwrap_or_default()).collect()
        })
    }

    /// A module compiled for the device by its driver.
    ///
    /// # Errors
    /// Where it does not compile.
    pub fn cubin(&self, module: &Module) -> Result<Cubin, Error> {
        link(&self.context, module)
    }

    /// Runs a kernel once and waits.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn run(&self, kernel: &Loaded, arguments: &[&Memory]) -> Result<(), Error> {
        self.stream.run(&kernel.0, &pointers(arguments))?;
        self.stream.wait()
    }

    /// Median nanoseconds of a launch in a graph of `repeats` launches, each after the one before.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn time(&self, kernel: &Loaded, arguments: &[&Memory], repeats: usize, rounds: usize) -> Result<f64, Error> {
        let after = |i: usize| i.checked_sub(1).map(|i| Edge { step: i as u32, kind: EdgeKind::Full });
        let launch = |i: usize| (&kernel.0, pointers(arguments), after(i).into_iter().collect());
        let graph = Graph::new(&self.context, &(0..repeats).map(launch).collect::<Vec<_>>())?;
        self.stream.launch(&graph)?;
        let mut times = self.stream.time(rounds, |_| self.stream.launch(&graph))?;
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2] / repeats as f64)
    }
}

fn pointers(arguments: &[&Memory]) -> Vec<u64> {
    arguments.iter().map(|m| m.0.pointer).collect()
}
