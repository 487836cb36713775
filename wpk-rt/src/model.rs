//! Loading and running a program.

use crate::buffer::Recycler;
use crate::execute::{Bucket, Constants, Schedules, Trace};
use crate::pending::{DeviceMemory, DeviceTensor, Pending, State};
use crate::pool::{self, Pool};
use crate::profile::Profile;
use crate::sessions::Options;
use crate::{Element, Error, Shape, Tensor, Weights};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use wpk_plan::{CpuSchedules, Place, Plan, Port, Program};

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The best device of this machine.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA GPU by number; an error where it cannot be had.
    Cuda(usize),
}

/// A loaded model: plans, weights and the memory to run them. `Send + Sync`; every call runs in a session of its own.
pub struct Model {
    program: Program,
    weights: Weights,
    plans: Vec<Bucket>,
    #[cfg(feature = "cuda")]
    gpu: Option<crate::cuda::Gpu>,
    /// Whether the next run prints its profile.
    profile: AtomicBool,
    recycler: Arc<Recycler>,
    pool: &'static Pool,
}

impl Model {
    /// Reads, verifies and binds a program.
    ///
    /// # Errors
    /// Where the bytes are not a program of this version, the weights do not belong to it, a kernel refuses a step, or the
    /// device is not there.
    pub fn load(program: &[u8], weights: Weights, options: Options) -> Result<Self, Error> {
        Self::with_options(Program::from_bytes(program)?, weights, options)
    }

    /// Binds a program in memory.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn new(program: Program, weights: Weights, device: Device) -> Result<Self, Error> {
        Self::with_options(program, weights, Options { device, ..Options::default() })
    }

    /// Binds a program in memory.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn with_options(program: Program, weights: Weights, options: Options) -> Result<Self, Error> {
        let device = options.device;
        if let Some(fault) = program.verify().first() {
            return Err(Error::Invalid(fault.to_string()));
        }
        if weights.bytes().len() < program.weight_bytes() {
            return Err(Error::Weights(format!("{} bytes instead of {}", weights.bytes().len(), program.weight_bytes())));
        }
        let pool = pool::global();
        let profile = AtomicBool::new(std::env::var_os("WPK_PROFILE").is_some_and(|v| v == "1"));
        #[cfg(feature = "cuda")]
        {
            let gpu = match device {
                Device::Cuda(n) => Some(crate::cuda::Gpu::new(&program, weights.bytes(), n, &options)?),
                // The CPU serves where no GPU does; `device()` tells.
                Device::Auto if !program.gpus.is_empty() => crate::cuda::Gpu::new(&program, weights.bytes(), 0, &options).ok(),
                _ => None,
            };
            if gpu.is_some() {
                return Ok(Self { program, weights, plans: vec![], gpu, profile, recycler: Arc::default(), pool });
            }
        }
        #[cfg(not(feature = "cuda"))]
        if let Device::Cuda(n) = device {
            return Err(Error::Device(format!("CUDA device {n}: wpk was built without its feature `cuda`")));
        }
        let found = schedules(&program, pool.threads());
        let buckets = program.buckets.iter().zip(&found);
        let plans = buckets.map(|((_, plan), s)| Bucket::new(plan, pool.threads(), &options, s)).collect::<Result<Vec<_>, _>>()?;
        let weight = |place: Place| match place {
            Place::Weight(i) => weights.bytes().as_ptr().wrapping_add(program.sections[i as usize].offset).cast_mut(),
            _ => std::ptr::null_mut(),
        };
        let mut known = BTreeMap::new();
        plans.iter().for_each(|p| p.prepare(weight, &mut known));
        // What the first run would wait for. Which of several plans will run, and whether all weights are needed, is not known.
        if let [only] = &plans[..] {
            crate::buffer::bring(&weights.bytes()[..program.weight_bytes()]);
            only.claim(pool)?;
        }
        Ok(Self {
            program,
            weights,
            plans,
            #[cfg(feature = "cuda")]
            gpu: None,
            profile,
            recycler: Arc::default(),
            pool,
        })
    }

    /// The device the model runs on.
    pub fn device(&self) -> Device {
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            return Device::Cuda(gpu.ordinal());
        }
        Device::Cpu
    }

    /// The GPU plan that runs, where one does.
    #[cfg(feature = "cuda")]
    pub fn gpu_plan(&self, bucket: usize) -> Option<&Plan> {
        self.gpu.as_ref().map(|g| g.plan(bucket))
    }

    /// On a GPU, nanoseconds of each of some replays of a bucket, copies excluded; else none.
    ///
    /// # Errors
    /// Where the device fails.
    #[cfg(feature = "cuda")]
    pub fn replays(&self, bucket: usize, count: usize) -> Result<Vec<f64>, Error> {
        self.gpu.as_ref().map_or(Ok(vec![]), |g| g.replays(bucket, count))
    }

    /// On a GPU, nanoseconds that the host takes to start each of some replays; else none.
    ///
    /// # Errors
    /// Where the device fails.
    #[cfg(feature = "cuda")]
    pub fn host_times(&self, bucket: usize, count: usize) -> Result<Vec<f64>, Error> {
        self.gpu.as_ref().map_or(Ok(vec![]), |g| g.host_times(bucket, count))
    }

    /// The calls of libraries that generated kernels stand in for, with the reasons: the library is absent, or another version.
    #[cfg(feature = "cuda")]
    pub fn refused_calls(&self) -> &[String] {
        self.gpu.as_ref().map_or(&[], |g| g.refused())
    }

    /// On a GPU, median nanoseconds of each step launched by itself; else none.
    ///
    /// # Errors
    /// Where the device fails.
    #[cfg(feature = "cuda")]
    pub fn step_times(&self, bucket: usize, rounds: usize) -> Result<Vec<f64>, Error> {
        self.gpu.as_ref().map_or(Ok(vec![]), |g| g.step_times(bucket, rounds))
    }

    /// The program being run.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Runs a bucket on row-major bytes, one slice per input and output.
    ///
    /// # Errors
    /// Where a slice has another length than its tensor.
    pub fn run(&self, bucket: usize, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), Error> {
        self.execute(bucket, inputs, outputs, None)?;
        if self.profile.swap(false, Ordering::Relaxed) {
            eprint!("{}", self.profile(bucket, inputs, outputs)?);
        }
        Ok(())
    }

    /// Starts a bucket on row-major bytes; on the CPU the call has ended when this returns.
    ///
    /// # Errors
    /// As for [`Model::run`].
    pub fn submit(&self, bucket: usize, inputs: &[&[u8]]) -> Result<Pending<'_>, Error> {
        #[cfg(feature = "cuda")]
        if self.gpu.is_some() {
            return self.submit_on_gpu(bucket, inputs, None);
        }
        let mut results: Vec<Vec<u8>> = self.plan(bucket)?.outputs.iter().map(|p| vec![0; p.bytes()]).collect();
        self.execute(bucket, inputs, &mut results.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(), None)?;
        Ok(Pending { state: State::Done(results) })
    }

    /// The same after what a stream of the application was given so far.
    ///
    /// # Errors
    /// As for [`Model::run`].
    #[cfg(feature = "cuda")]
    pub fn submit_after(&self, bucket: usize, inputs: &[&[u8]], stream: &crate::UserStream) -> Result<Pending<'_>, Error> {
        if self.gpu.is_some() { self.submit_on_gpu(bucket, inputs, Some(stream)) } else { self.submit(bucket, inputs) }
    }

    #[cfg(feature = "cuda")]
    fn submit_on_gpu(&self, bucket: usize, inputs: &[&[u8]], after: Option<&crate::UserStream>) -> Result<Pending<'_>, Error> {
        let plan = self.plan(bucket)?;
        check_ports(&plan.inputs, inputs.iter().map(|i| i.len()))?;
        match &self.gpu {
            Some(gpu) => gpu.submit(bucket, inputs, after).map(|started| Pending { state: State::Started(started) }),
            None => Err(Error::Device("the model runs on the CPU".to_owned())),
        }
    }

    /// A copy of a tensor where the model runs.
    ///
    /// # Errors
    /// Where the device has no memory left.
    pub fn upload<T: Element, S: Shape>(&self, tensor: &Tensor<T, S>) -> Result<DeviceTensor<T, S>, Error> {
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            return gpu.upload(tensor.as_bytes()).map(|b| DeviceTensor::new(DeviceMemory::Cuda(b)));
        }
        Ok(DeviceTensor::new(DeviceMemory::Host(tensor.as_bytes().to_vec())))
    }

    /// Memory for a result where the model runs.
    #[doc(hidden)]
    pub fn device_output<T: Element, S: Shape>(&self) -> Result<DeviceTensor<T, S>, Error> {
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            return gpu.buffer(S::LEN * size_of::<T>()).map(|b| DeviceTensor::new(DeviceMemory::Cuda(b)));
        }
        Ok(DeviceTensor::new(DeviceMemory::Host(vec![0; S::LEN * size_of::<T>()])))
    }

    /// Where a tensor's bytes are.
    #[doc(hidden)]
    pub fn memory<T: Element, S: Shape>(tensor: &DeviceTensor<T, S>) -> &DeviceMemory {
        &tensor.memory
    }

    /// Where a tensor's bytes are, to write.
    #[doc(hidden)]
    pub fn memory_mut<T: Element, S: Shape>(tensor: &mut DeviceTensor<T, S>) -> &mut DeviceMemory {
        &mut tensor.memory
    }

    /// Runs a bucket on tensors that lie where the model runs.
    ///
    /// # Errors
    /// Where a tensor lies elsewhere or has another length than the model's, or the device fails.
    pub fn run_on_device(&self, bucket: usize, inputs: &[&DeviceMemory], outputs: &mut [&mut DeviceMemory]) -> Result<(), Error> {
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            let reads = inputs.iter().map(|m| m.on_gpu()).collect::<Result<Vec<_>, _>>()?;
            let writes = outputs.iter().map(|m| m.on_gpu()).collect::<Result<Vec<_>, _>>()?;
            let plan = self.plan(bucket)?;
            check_ports(&plan.inputs, reads.iter().map(|b| b.bytes))?;
            check_ports(&plan.outputs, writes.iter().map(|b| b.bytes))?;
            return gpu.run_on_device(bucket, &reads, &writes);
        }
        let reads = inputs.iter().map(|m| m.on_host()).collect::<Result<Vec<_>, _>>()?;
        let mut writes = outputs.iter_mut().map(|m| m.on_host_mut()).collect::<Result<Vec<_>, _>>()?;
        self.run(bucket, &reads, &mut writes)
    }

    fn plan(&self, bucket: usize) -> Result<&Plan, Error> {
        let found = self.program.buckets.get(bucket).map(|b| &b.1);
        found.ok_or_else(|| Error::Invalid(format!("there is no bucket {bucket}")))
    }

    /// Where the time goes; `WPK_PROFILE=1` prints it to stderr after a model's first run.
    ///
    /// # Errors
    /// As for [`Model::run`].
    pub fn profile(&self, bucket: usize, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<Profile, Error> {
        const ROUNDS: usize = 20;
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or(0.0)
        };
        #[cfg(feature = "cuda")]
        if let Some(plan) = self.gpu_plan(bucket) {
            let whole = median(self.replays(bucket, ROUNDS)?);
            return Ok(Profile::new(plan, &self.step_times(bucket, ROUNDS)?, whole));
        }
        let plan = &self.program.buckets.get(bucket).ok_or_else(|| Error::Invalid(format!("there is no bucket {bucket}")))?.1;
        let (mut times, mut whole) = (vec![f64::INFINITY; plan.body.steps().len()], vec![]);
        for _ in 0..ROUNDS {
            self.execute(bucket, inputs, outputs, Some(&mut |t| times[t.step] = times[t.step].min(t.time.as_secs_f64() * 1e9)))?;
            let start = Instant::now();
            self.execute(bucket, inputs, outputs, None)?;
            whole.push(start.elapsed().as_secs_f64() * 1e9);
        }
        Ok(Profile::new(plan, &times, median(whole)))
    }

    /// The same, telling an observer of every step.
    ///
    /// # Errors
    /// As for [`Model::run`].
    pub fn run_traced(
        &self,
        bucket: usize,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        observe: &mut dyn FnMut(Trace<'_>),
    ) -> Result<(), Error> {
        self.execute(bucket, inputs, outputs, Some(observe))
    }

    fn execute(
        &self,
        bucket: usize,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        observe: Option<&mut dyn FnMut(Trace<'_>)>,
    ) -> Result<(), Error> {
        let plan = self.plan(bucket)?;
        check_ports(&plan.inputs, inputs.iter().map(|i| i.len()))?;
        check_ports(&plan.outputs, outputs.iter().map(|o| o.len()))?;
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            if observe.is_some() {
                return Err(Error::Device("steps are only traced on the CPU".to_owned()));
            }
            return gpu.run(bucket, inputs, outputs);
        }
        let constants = Constants { program: &self.program, weights: self.weights.bytes(), pool: self.pool };
        self.plans[bucket].run(plan, &constants, (inputs, outputs), observe)
    }

    /// A tensor for a result, in memory that an earlier one gave back where possible.
    #[doc(hidden)]
    pub fn output<T: Element, S: Shape>(&self) -> Tensor<T, S> {
        Tensor::recycled(&self.recycler)
    }

    /// The bytes of a tensor.
    #[doc(hidden)]
    pub fn bytes<T: Element, S: Shape>(tensor: &Tensor<T, S>) -> &[u8] {
        tensor.as_bytes()
    }

    /// The bytes of a tensor, to write.
    #[doc(hidden)]
    pub fn bytes_mut<T: Element, S: Shape>(tensor: &mut Tensor<T, S>) -> &mut [u8] {
        tensor.as_bytes_mut()
    }
}

/// Whether there is a tensor of the right length for every port.
fn check_ports(ports: &[Port], lengths: impl ExactSizeIterator<Item = usize>) -> Result<(), Error> {
    if ports.len() != lengths.len() {
        let (expected, found) = (format!("{} tensors", ports.len()), lengths.len().to_string());
        return Err(Error::Mismatch { what: "call".to_owned(), expected, found });
    }
    match ports.iter().zip(lengths).find(|(port, found)| *found != port.bytes()) {
        None => Ok(()),
        Some((port, found)) => Err(Error::Mismatch {
            what: format!("tensor {:?}", port.name),
            expected: format!("{} bytes of {}{:?}", port.bytes(), port.dtype, port.shape),
            found: format!("{found} bytes"),
        }),
    }
}

/// The schedules that a search found for this processor and so many threads, by bucket.
fn schedules(program: &Program, threads: usize) -> Vec<Schedules> {
    let mut found = vec![Schedules::new(); program.buckets.len()];
    // The processor is asked for only where something depends on it.
    let own = |c: &&CpuSchedules| c.threads as usize == threads && c.device == crate::cpu::identity();
    for step in program.cpus.iter().find(own).into_iter().flat_map(|c| &c.steps) {
        found[step.bucket as usize].insert(step.step, step.schedule);
    }
    found
}
