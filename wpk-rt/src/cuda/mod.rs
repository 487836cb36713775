//! GPU plans: kernels loaded once, weights on the device, and sessions that replay a graph of launches.

mod driver;
mod function;
mod graph;
mod library;
pub mod measure;
mod work;

use crate::Error;
use crate::sessions::{Options, Sessions, Taken};
pub use driver::Buffer;
use driver::{Context, Pinned, Stream};
use graph::{Graph, Launch};
use std::sync::Arc;
use work::Loaded;
use wpk_plan::{Block, GpuPlans, Module, Place, Plan, Program, Step};

/// The GPU side of a model.
pub struct Gpu {
    /// Before the modules, which their graphs launch: fields are dropped in order.
    sessions: Vec<Sessions<Session>>,
    context: Arc<Context>,
    loaded: Loaded,
    modules: Vec<Module>,
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
    arena: Buffer,
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
        let mut loaded = Loaded::new(&context, chosen)?;
        let section = |i: u32| {
            let s = &program.sections[i as usize];
            (s.dtype, &weights[s.offset..s.offset + s.bytes])
        };
        for plan in &chosen.plans {
            loaded.convert(&context, (steps(plan)?, &chosen.modules), section)?;
        }
        // Texts and cubins are loaded: what is left are the facts of calls.
        let modules = chosen.modules.iter().map(|m| Module { text: String::new(), cubins: vec![], ..m.clone() }).collect();
        let mut gpu = Self {
            weights: Buffer::of(&context, weights)?,
            sections: program.sections.iter().map(|s| s.offset).collect(),
            plans: chosen.plans.clone(),
            sessions: vec![],
            context,
            loaded,
            modules,
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
        let mut session = Session { stream: Stream::new(&self.context)?, graph: Graph::new(&self.context, &[])?, inputs, outputs, arena };
        session.graph = Graph::new(&self.context, &self.launches(plan, &session)?)?;
        Ok(session)
    }

    /// What the steps of a plan start in a session.
    fn launches<'a>(&'a self, plan: &Plan, session: &Session) -> Result<Vec<Launch<'a>>, Error> {
        let pointer = |place: Place| match place {
            Place::Arena(offset) => Ok(session.arena.pointer + offset as u64),
            Place::Weight(i) => Ok(self.weights.pointer + self.sections[i as usize] as u64),
            Place::Input(i) => Ok(session.inputs[i as usize].1.pointer),
            Place::Output(i) => Ok(session.outputs[i as usize].1.pointer),
            other => Err(Error::Invalid(format!("argument {other}"))),
        };
        steps(plan)?.iter().map(|step| Ok((self.loaded.work(step, &self.modules, pointer)?, step.after.clone()))).collect()
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
            let launches = self.launches(&self.plans[bucket], s)?;
            let mut all: Vec<Vec<f64>> = vec![vec![]; launches.len()];
            for _ in 0..rounds {
                let once = s.stream.time(launches.len(), |i| launches[i].0.start(&s.stream))?;
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

    /// The calls of libraries that are not used, with the reasons.
    pub fn refused(&self) -> &[String] {
        &self.loaded.refused
    }
}
