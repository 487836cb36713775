//! GPU plans: kernels loaded once, weights on the device, and sessions that replay a graph of launches.

mod driver;
mod function;
pub mod measure;

use crate::Error;
use crate::sessions::{Options, Sessions, Taken};
pub use driver::Buffer;
use driver::{Context, Graph, Pinned, Stream};
use function::Function;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wpk_plan::{Block, GpuPlans, Kernel, Place, Plan, Program, Step};

/// The GPU side of a model.
pub struct Gpu {
    /// Before the functions, which their graphs launch: fields are dropped in order.
    sessions: Vec<Sessions<Session>>,
    context: Arc<Context>,
    functions: Vec<Function>,
    weights: Buffer,
    sections: Vec<usize>,
    plans: Vec<Plan>,
}

/// The memory and the graph of one call.
struct Session {
    stream: Stream,
    graph: Graph,
    inputs: Vec<(Pinned, Buffer)>,
    outputs: Vec<(Pinned, Buffer)>,
    /// By step, its launch.
    launches: Vec<(usize, Vec<u64>)>,
    _arena: Buffer,
}

impl Session {
    /// Starts copies to the device, the graph, and copies back.
    fn start(&mut self, inputs: &[&[u8]]) -> Result<(), Error> {
        for ((pinned, buffer), data) in self.inputs.iter_mut().zip(inputs) {
            pinned.bytes_mut().copy_from_slice(data);
            self.stream.upload(buffer, pinned)?;
        }
        self.stream.launch(&self.graph)?;
        self.outputs.iter_mut().try_for_each(|(pinned, buffer)| self.stream.download(pinned, buffer))
    }

    /// Waits for what was started, and copies its results.
    fn finish(&self, outputs: &mut [&mut [u8]]) -> Result<(), Error> {
        self.stream.wait()?;
        self.outputs.iter().zip(outputs).for_each(|((pinned, _), data)| data.copy_from_slice(pinned.bytes()));
        Ok(())
    }
}

/// A call under way on the device.
pub struct Started<'a> {
    gpu: &'a Gpu,
    taken: Taken<'a, Session>,
}

impl Started<'_> {
    /// Whether the results are there.
    pub fn is_done(&mut self) -> Result<bool, Error> {
        self.gpu.context.enter()?;
        self.taken.run(|s| s.stream.is_idle())
    }

    /// Makes what a stream is given next wait for the results.
    pub fn before(&mut self, stream: &UserStream) -> Result<(), Error> {
        self.gpu.context.enter()?;
        self.taken.run(|s| s.stream.before(stream.0))
    }

    /// Waits, and copies the results.
    pub fn finish(mut self, outputs: &mut [&mut [u8]]) -> Result<(), Error> {
        self.gpu.context.enter()?;
        self.taken.run(|s| s.finish(outputs))?;
        self.taken.usable = true;
        Ok(())
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        // The session's memory must stay until nothing uses it any more.
        let waited = self.gpu.context.enter().and_then(|()| self.taken.run(|s| s.stream.wait()));
        self.taken.usable = waited.is_ok();
    }
}

/// A stream that the application owns.
#[derive(Debug)]
pub struct UserStream(cudarc::driver::sys::CUstream);

// SAFETY: the driver's streams may be used from any thread.
unsafe impl Send for UserStream {}
// SAFETY: as above.
unsafe impl Sync for UserStream {}

impl UserStream {
    /// The stream behind a `CUstream` (or a `cudaStream_t`) of the model's device.
    ///
    /// # Safety
    /// The stream must exist as long as this value, in the device's primary context.
    pub unsafe fn from_raw(stream: *mut std::ffi::c_void) -> Self {
        Self(stream.cast())
    }
}

/// The steps of a plan without control flow.
fn steps(plan: &Plan) -> Result<&[Step], Error> {
    match plan.body.blocks.as_slice() {
        [] => Ok(&[]),
        [Block::Run(steps)] => Ok(steps),
        _ => Err(Error::Invalid("control flow in a GPU plan".to_owned())),
    }
}

/// The compute capability of an architecture, and whether it serves that one alone.
fn number(arch: &str) -> Option<(u32, bool)> {
    let digits = arch.strip_prefix("sm_")?;
    Some((digits.trim_end_matches('a').parse().ok()?, digits.ends_with('a')))
}

/// Whether a plan for an architecture runs on a compute capability, as 90 for 9.0.
pub fn runs(arch: &str, capability: u32) -> bool {
    number(arch).is_some_and(|(n, alone)| n == capability || !alone && n < capability)
}

impl Gpu {
    /// Loads the plans for a device.
    pub fn new(program: &Program, weights: &[u8], ordinal: usize, options: &Options) -> Result<Self, Error> {
        if program.gpus.is_empty() {
            return Err(Error::Device(format!("CUDA device {ordinal}: this program holds no GPU plan")));
        }
        let context = Context::new(ordinal)?;
        let capability = context.capability()?;
        let fits = |g: &&GpuPlans| runs(&g.arch, capability);
        let Some(chosen) = program.gpus.iter().filter(fits).max_by_key(|g| number(&g.arch)) else {
            let had: Vec<&str> = program.gpus.iter().map(|g| g.arch.as_str()).collect();
            return Err(Error::Device(format!("CUDA device {ordinal} is sm_{capability}; there are plans for {}", had.join(", "))));
        };
        let limit = context.shared()?;
        if let Some(m) = chosen.modules.iter().find(|m| m.shared > limit) {
            return Err(Error::Device(format!("{} takes {} bytes of shared memory, the device has {limit}", m.entry, m.shared)));
        }
        let functions = functions(&context, chosen)?;
        let mut gpu = Self {
            weights: Buffer::of(&context, weights)?,
            sections: program.sections.iter().map(|s| s.offset).collect(),
            plans: chosen.plans.clone(),
            sessions: vec![],
            context,
            functions,
        };
        let firsts = (0..gpu.plans.len()).map(|bucket| gpu.session(bucket)).collect::<Result<Vec<_>, _>>()?;
        gpu.sessions = firsts.into_iter().map(|first| Sessions::new(options, first)).collect();
        Ok(gpu)
    }

    /// The device's number.
    pub fn ordinal(&self) -> usize {
        self.context.ordinal()
    }

    /// The plan of a bucket.
    pub fn plan(&self, bucket: usize) -> &Plan {
        &self.plans[bucket]
    }

    fn session(&self, bucket: usize) -> Result<Session, Error> {
        let plan = &self.plans[bucket];
        let arena = Buffer::new(&self.context, plan.arena)?;
        let pair = |p: &wpk_plan::Port| Ok((Pinned::new(&self.context, p.bytes())?, Buffer::new(&self.context, p.bytes())?));
        let inputs = plan.inputs.iter().map(pair).collect::<Result<Vec<_>, Error>>()?;
        let outputs = plan.outputs.iter().map(pair).collect::<Result<Vec<_>, Error>>()?;
        let pointer = |place: Place| match place {
            Place::Arena(offset) => Ok(arena.pointer + offset as u64),
            Place::Weight(i) => Ok(self.weights.pointer + self.sections[i as usize] as u64),
            Place::Input(i) => Ok(inputs[i as usize].1.pointer),
            Place::Output(i) => Ok(outputs[i as usize].1.pointer),
            other => Err(Error::Invalid(format!("argument {other}"))),
        };
        let mut launches = vec![];
        let mut nodes = vec![];
        for step in steps(plan)? {
            let Kernel::Gpu(_, _, module) = step.kernel else {
                return Err(Error::Invalid(format!("a CPU kernel in a GPU plan ({})", step.origin)));
            };
            let pointers = step.args.iter().map(|a| pointer(a.place)).collect::<Result<Vec<_>, _>>()?;
            launches.push((module as usize, pointers.clone()));
            nodes.push((&self.functions[module as usize], pointers, step.after.clone()));
        }
        let graph = Graph::new(&self.context, &nodes)?;
        Ok(Session { stream: Stream::new(&self.context)?, graph, inputs, outputs, launches, _arena: arena })
    }

    /// Runs something in an idle session, or in a new one.
    fn with<T>(&self, bucket: usize, f: impl FnOnce(&mut Session) -> Result<T, Error>) -> Result<T, Error> {
        self.context.enter()?;
        self.sessions[bucket].with(|| self.session(bucket), f)
    }

    /// Runs a bucket on host memory of the ports' lengths.
    pub fn run(&self, bucket: usize, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), Error> {
        self.with(bucket, |s| {
            s.start(inputs)?;
            s.finish(outputs)
        })
    }

    /// Starts a bucket on host memory, after what a stream of the caller's was given so far where there is one.
    pub fn submit(&self, bucket: usize, inputs: &[&[u8]], after: Option<&UserStream>) -> Result<Started<'_>, Error> {
        self.context.enter()?;
        let mut taken = self.sessions[bucket].take(|| self.session(bucket))?;
        taken.run(|s| {
            after.map_or(Ok(()), |stream| s.stream.wait_for(stream.0))?;
            s.start(inputs)
        })?;
        Ok(Started { gpu: self, taken })
    }

    /// Runs a bucket on tensors of the device and waits.
    pub fn run_on_device(&self, bucket: usize, inputs: &[&Buffer], outputs: &[&Buffer]) -> Result<(), Error> {
        self.with(bucket, |s| {
            for ((_, to), from) in s.inputs.iter().zip(inputs) {
                s.stream.copy(to, from)?;
            }
            s.stream.launch(&s.graph)?;
            for ((_, from), to) in s.outputs.iter().zip(outputs) {
                s.stream.copy(to, from)?;
            }
            s.stream.wait()
        })
    }

    /// Memory on the device.
    pub fn buffer(&self, bytes: usize) -> Result<Buffer, Error> {
        Buffer::new(&self.context, bytes)
    }

    /// Memory on the device with a copy of host memory.
    pub fn upload(&self, data: &[u8]) -> Result<Buffer, Error> {
        Buffer::of(&self.context, data)
    }

    /// Nanoseconds of each of some replays of the whole plan, on what the session's inputs hold.
    pub fn replays(&self, bucket: usize, count: usize) -> Result<Vec<f64>, Error> {
        self.with(bucket, |s| s.stream.time(count, |_| s.stream.launch(&s.graph)))
    }

    /// Nanoseconds that the host takes to start a replay while the device is idle, of each of some.
    pub fn host_times(&self, bucket: usize, count: usize) -> Result<Vec<f64>, Error> {
        self.with(bucket, |s| {
            let one = |_| {
                let start = std::time::Instant::now();
                s.stream.launch(&s.graph)?;
                let time = start.elapsed().as_secs_f64() * 1e9;
                s.stream.wait().map(|()| time)
            };
            (0..count).map(one).collect()
        })
    }

    /// Nanoseconds of each step when launched by itself, the median of some rounds.
    pub fn step_times(&self, bucket: usize, rounds: usize) -> Result<Vec<f64>, Error> {
        self.with(bucket, |s| {
            let mut all: Vec<Vec<f64>> = vec![vec![]; s.launches.len()];
            for _ in 0..rounds {
                let once = s.stream.time(s.launches.len(), |i| {
                    let (module, pointers) = &s.launches[i];
                    s.stream.run(&self.functions[*module], pointers)
                })?;
                all.iter_mut().zip(once).for_each(|(list, t)| list.push(t));
            }
            Ok(all
                .into_iter()
                .map(|mut list| {
                    list.sort_by(f64::total_cmp);
                    list[list.len() / 2]
                })
                .collect())
        })
    }
}

/// Loads every module, several at a time, the longest texts first: the driver compiles each by itself.
fn functions(context: &Arc<Context>, plans: &GpuPlans) -> Result<Vec<Function>, Error> {
    let mut order: Vec<usize> = (0..plans.modules.len()).collect();
    order.sort_by_key(|&i| Reverse(plans.modules[i].text.len()));
    let next = AtomicUsize::new(0);
    let load = || -> Result<Vec<(usize, Function)>, Error> {
        let turn = || order.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(turn).map(|&i| Ok((i, Function::load(context, &plans.modules[i])?))).collect()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16).min(order.len());
    let loaded: Result<Vec<_>, Error> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(load)).collect();
        all.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(Error::Device("a thread that loads kernels ended".to_owned())))).collect()
    });
    let mut loaded: Vec<_> = loaded?.into_iter().flatten().collect();
    loaded.sort_by_key(|(i, _)| *i);
    Ok(loaded.into_iter().map(|(_, f)| f).collect())
}
