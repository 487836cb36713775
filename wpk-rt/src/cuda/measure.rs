//! Single kernels on a device, for those that search: compiled in parallel, run, and timed as graphs of launches.

use super::driver::{Buffer, Context, Stream, open};
use super::function::{Function, link};
use super::graph::{Graph, Work};
use super::library::{Libraries, Prepared};
use crate::Error;
use std::sync::Arc;
use wpk_plan::library::{Call, Linear};
use wpk_plan::{Cubin, DType, Edge, Module};

pub use wpk_plan::EdgeKind;

/// The CUDA version that the driver is for, as 12040 for 12.4, and how many devices it shows.
///
/// # Errors
/// Where there is no driver, or it is too old.
pub fn driver() -> Result<(i32, usize), Error> {
    open()
}

pub use super::library::Found;
pub use super::runs;

/// A device to measure on.
pub struct Bench {
    context: Arc<Context>,
    stream: Stream,
    libraries: Libraries,
}

/// Device memory that kernels read and write.
pub struct Memory(Buffer);

/// A compiled kernel, or a call of a library.
pub struct Loaded(Inner);

enum Inner {
    Kernel(Function),
    /// The call, the argument that it reads in a type of its own, and its workspace.
    Call(Box<Prepared>, Option<(usize, Buffer)>, Buffer),
}

impl Bench {
    /// Opens a device by number.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn new(ordinal: usize) -> Result<Self, Error> {
        let context = Context::new(ordinal)?;
        Ok(Self { stream: Stream::new(&context)?, libraries: Libraries::new(&context), context })
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
        let one = move |m: &Module| Function::load(context, m).map(|f| Loaded(Inner::Kernel(f)));
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
        kernel.work(arguments).start(&self.stream)?;
        self.stream.wait()
    }

    /// The vendor libraries: the version and path of each, or why it is not there.
    pub fn libraries(&self) -> Vec<Found> {
        self.libraries.found()
    }

    /// The calls that libraries propose for a sum, at most so many of each, and why one proposes none.
    pub fn calls(&self, linear: &Linear, most: usize) -> (Vec<Call>, Vec<String>) {
        self.libraries.candidates(linear, most)
    }

    /// A call made ready for some operands, with what is known of it now: its workspace.
    ///
    /// # Errors
    /// Where its library refuses it, or there is no memory.
    pub fn prepare(&self, call: &Call, operands: &[&Memory]) -> Result<(Loaded, Call), Error> {
        let prepared = self.libraries.prepare(call)?;
        let converted = match prepared.converted {
            // Only a bias is ever read in another type, and those are given in `f32`.
            Some((i, _)) => {
                let bytes = operands.get(i).map_or(Ok(vec![]), |m| m.0.read())?;
                prepared.convert(&self.context, DType::F32, &bytes)?.map(|b| (i, b))
            }
            None => None,
        };
        let workspace = Buffer::new(&self.context, prepared.call().workspace)?;
        let call = prepared.call().clone();
        Ok((Loaded(Inner::Call(Box::new(prepared), converted, workspace)), call))
    }

    /// Nanoseconds of a launch in a graph of `repeats` launches, each after the one before, of each of some replays, fastest first.
    /// Programmatic edges are for kernels that wait themselves.
    /// Launches take turns with the lists of arguments, so that data may come from memory every time.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn time(
        &self,
        (kernel, kind): (&Loaded, EdgeKind),
        arguments: &[Vec<&Memory>],
        repeats: usize,
        rounds: usize,
    ) -> Result<Vec<f64>, Error> {
        let after = |i: usize| i.checked_sub(1).map(|i| Edge { step: i as u32, kind });
        let launch = |i: usize| (kernel.work(&arguments[i % arguments.len()]), after(i).into_iter().collect());
        let graph = Graph::new(&self.context, &(0..repeats).map(launch).collect::<Vec<_>>())?;
        self.stream.launch(&graph)?;
        let mut times = self.stream.time(rounds, |_| self.stream.launch(&graph))?;
        times.sort_by(f64::total_cmp);
        Ok(times.iter().map(|t| t / repeats as f64).collect())
    }

    /// Bytes of the device's second cache.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn cache(&self) -> Result<usize, Error> {
        self.context.cache()
    }
}

impl Loaded {
    /// What is started with some arguments; a call takes the operands alone.
    fn work(&self, arguments: &[&Memory]) -> Work<'_> {
        let mut pointers: Vec<u64> = arguments.iter().map(|m| m.0.pointer).collect();
        match &self.0 {
            Inner::Kernel(function) => Work::Kernel(function, pointers),
            Inner::Call(call, converted, workspace) => {
                converted.iter().for_each(|(i, buffer)| pointers[*i] = buffer.pointer);
                Work::Call(call, pointers, workspace.pointer)
            }
        }
    }
}
