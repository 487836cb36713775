//! Execution of a plan on the CPU: kernels bound once, the memory of a call, the walk over the plan's steps.

use crate::Error;
use crate::buffer::Memory;
use crate::cpu::{self, Bound, Cx, Transformed};
use crate::pool::Pool;
use crate::sessions::{Options, Sessions};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wpk_plan::{Arg, Block, Body, CpuSchedule, Place, Plan, Program, Step};

/// A bound plan with its idle sessions.
pub struct Bucket {
    body: BoundBody,
    sizes: Sizes,
    sessions: Sessions<Session>,
}

/// Bytes of a session: arena, scratch of a step, scratch of each thread.
#[derive(Clone, Copy)]
struct Sizes {
    arena: usize,
    shared: usize,
    own: usize,
}

type BoundBody = Vec<BoundBlock>;

enum BoundBlock {
    Run(Vec<BoundStep>),
    If(Arg, BoundBody, BoundBody),
    Loop(u64, Arg, BoundBody),
}

struct BoundStep {
    kernel: Box<dyn Bound>,
    args: Vec<Place>,
}

/// The memory of one call.
struct Session {
    arena: Memory,
    scratch: Memory,
    pointers: Vec<*mut u8>,
}

// SAFETY: the pointers are only used during a call, which owns the session.
unsafe impl Send for Session {}

/// What a traced step took and wrote.
pub struct Trace<'a> {
    /// The step's number, in order of execution.
    pub step: usize,
    /// How long it took.
    pub time: Duration,
    /// The bytes of each output argument, intermediates and results alike.
    pub outputs: Vec<&'a [u8]>,
}

/// What every call of a model shares.
pub struct Constants<'a> {
    pub program: &'a Program,
    pub weights: &'a [u8],
    pub pool: &'static Pool,
}

impl Bucket {
    /// Binds the kernels of a plan; products as their schedules tell, by the numbers of their steps.
    pub fn new(plan: &Plan, threads: usize, options: &Options, schedules: &Schedules) -> Result<Self, Error> {
        let mut binding = Binding { step: 0, scratch: (0, 0), options, schedules };
        let body = binding.body(&plan.body)?;
        let scratch = binding.scratch;
        let aligned = |n: usize| n.next_multiple_of(64);
        let sizes = Sizes { arena: plan.arena, shared: aligned(scratch.0), own: aligned(scratch.1) };
        Ok(Self { body, sizes, sessions: Sessions::new(options, Session::new(sizes, threads)) })
    }

    /// Has the system give the memory of an idle session now, not when it runs.
    pub fn claim(&self, pool: &Pool) -> Result<(), Error> {
        let busy = || Err(Error::Invalid("no session is idle".to_owned()));
        self.sessions.with(busy, |session| {
            session.arena.claim(pool);
            session.scratch.claim(pool);
            Ok(())
        })
    }

    /// Makes what kernels read weights as.
    pub fn prepare(&self, weights: impl Fn(Place) -> *mut u8, known: &mut Transformed) {
        let mut bodies = vec![&self.body];
        while let Some(body) = bodies.pop() {
            for block in body {
                match block {
                    BoundBlock::Run(steps) => {
                        for step in steps {
                            let pointers: Vec<*mut u8> = step.args.iter().map(|&a| weights(a)).collect();
                            // SAFETY: the program was verified; weights are as long as their sections.
                            unsafe { step.kernel.prepare(&pointers, known) }
                        }
                    }
                    BoundBlock::If(_, then, other) => bodies.extend([then, other]),
                    BoundBlock::Loop(_, _, body) => bodies.push(body),
                }
            }
        }
    }

    /// Runs the plan once on buffers with the lengths of its ports.
    pub fn run(
        &self,
        plan: &Plan,
        constants: &Constants<'_>,
        (inputs, outputs): (&[&[u8]], &mut [&mut [u8]]),
        observe: Option<&mut dyn FnMut(Trace<'_>)>,
    ) -> Result<(), Error> {
        let mut run = Run { constants, owner: self, plan, inputs, outputs, observe, step: 0 };
        let make = || Ok(Session::new(self.sizes, constants.pool.threads()));
        self.sessions.with(make, |session| {
            run.body(&self.body, session);
            Ok(())
        })
    }
}

impl Session {
    fn new(sizes: Sizes, threads: usize) -> Self {
        Self { arena: Memory::new(sizes.arena), scratch: Memory::new(sizes.shared + threads * sizes.own), pointers: Vec::with_capacity(64) }
    }
}

/// Schedules of products by the numbers of their steps.
pub type Schedules = BTreeMap<u32, CpuSchedule>;

/// Kernels on the way into a bucket.
struct Binding<'a> {
    /// The next step's number.
    step: usize,
    /// The most scratch memory of a step, shared and of each thread.
    scratch: (usize, usize),
    options: &'a Options,
    schedules: &'a Schedules,
}

impl Binding<'_> {
    fn body(&mut self, body: &Body) -> Result<BoundBody, Error> {
        let block = |block: &Block| {
            Ok(match block {
                Block::Run(steps) => BoundBlock::Run(steps.iter().map(|s| self.step(s)).collect::<Result<_, Error>>()?),
                Block::If(cond, then, other) => BoundBlock::If(*cond, self.body(then)?, self.body(other)?),
                Block::Loop(limit, cond, body) => BoundBlock::Loop(*limit, *cond, self.body(body)?),
            })
        };
        body.blocks.iter().map(block).collect()
    }

    fn step(&mut self, s: &Step) -> Result<BoundStep, Error> {
        let schedule = self.schedules.get(&(self.step as u32));
        let bound = cpu::bind(&s.kernel, self.options.small, self.options.functions, schedule);
        let kernel = bound.map_err(|message| Error::Step { step: self.step, origin: s.origin.clone(), message })?;
        let own = kernel.scratch();
        self.scratch = (self.scratch.0.max(own.0), self.scratch.1.max(own.1));
        self.step += 1;
        Ok(BoundStep { kernel, args: s.args.iter().map(|a| a.place).collect() })
    }
}

/// One call.
struct Run<'a, 'i, 'o, 't> {
    constants: &'a Constants<'a>,
    owner: &'a Bucket,
    plan: &'a Plan,
    inputs: &'a [&'i [u8]],
    outputs: &'a mut [&'o mut [u8]],
    observe: Option<&'a mut (dyn FnMut(Trace<'_>) + 't)>,
    step: usize,
}

impl Run<'_, '_, '_, '_> {
    fn pointer(&mut self, place: Place, session: &Session) -> *mut u8 {
        match place {
            Place::Arena(offset) => session.arena.ptr().wrapping_add(offset),
            Place::Weight(i) => self.constants.weights.as_ptr().wrapping_add(self.constants.program.sections[i as usize].offset).cast_mut(),
            Place::Input(i) => self.inputs[i as usize].as_ptr().cast_mut(),
            Place::Output(i) => self.outputs[i as usize].as_mut_ptr(),
            // Immediate values belong to GPU launches.
            Place::Scalar(_) | Place::Parameter(_) => std::ptr::null_mut(),
        }
    }

    fn condition(&mut self, arg: Arg, session: &Session) -> bool {
        let p = self.pointer(arg.place, session);
        // SAFETY: the verifier checked that the argument lies in its memory and is not empty.
        !p.is_null() && unsafe { *p } != 0
    }

    fn body(&mut self, body: &BoundBody, session: &mut Session) {
        for block in body {
            match block {
                BoundBlock::Run(steps) => steps.iter().for_each(|s| self.step(s, session)),
                BoundBlock::If(cond, then, other) => {
                    let chosen = if self.condition(*cond, session) { then } else { other };
                    self.body(chosen, session);
                }
                BoundBlock::Loop(limit, cond, body) => {
                    let mut rounds = 0;
                    while rounds < *limit && self.condition(*cond, session) {
                        self.body(body, session);
                        rounds += 1;
                    }
                }
            }
        }
    }

    fn step(&mut self, step: &BoundStep, session: &mut Session) {
        let mut pointers = std::mem::take(&mut session.pointers);
        pointers.clear();
        for &place in &step.args {
            let p = self.pointer(place, session);
            pointers.push(p);
        }
        let Sizes { shared, own, .. } = self.owner.sizes;
        let cx = Cx { pool: self.constants.pool, shared: session.scratch.ptr(), own: (session.scratch.ptr().wrapping_add(shared), own) };
        let start = self.observe.is_some().then(Instant::now);
        // SAFETY: the program was verified, the slices have their ports' lengths, and the session belongs to this call.
        unsafe { step.kernel.run(&pointers, &cx) }
        if let (Some(start), Some(observe)) = (start, self.observe.as_mut()) {
            let time = start.elapsed();
            let all = self.plan.body.steps();
            let steps = &all[self.step];
            let first = steps.kernel.problem().inputs().len();
            // SAFETY: as above; nothing writes while the observer looks.
            let outputs =
                steps.args.iter().zip(&pointers).skip(first).map(|(a, &p)| unsafe { std::slice::from_raw_parts(p.cast_const(), a.bytes) });
            observe(Trace { step: self.step, time, outputs: outputs.collect() });
        }
        self.step += 1;
        session.pointers = pointers;
    }
}
