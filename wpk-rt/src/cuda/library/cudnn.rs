//! Convolutions and products with what follows them by cuDNN's graph interface: operations on tensors make a graph, an engine with its
//! knobs makes a plan of it. Engines that change results between runs, or that lower the precision asked for, are left out.

use super::load::{open, symbol};
use crate::Error;
use cudarc::driver::sys::CUstream;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};
use wpk_plan::DType;
use wpk_plan::library::{Activation, Call, Form, Library, Linear, Stage, Strided};

type Raw = *mut c_void;
type Create = unsafe extern "C" fn(*mut Raw) -> i32;
type Make = unsafe extern "C" fn(i32, *mut Raw) -> i32;
type Take = unsafe extern "C" fn(Raw) -> i32;
type Set = unsafe extern "C" fn(Raw, i32, i32, i64, *const c_void) -> i32;
type Get = unsafe extern "C" fn(Raw, i32, i32, i64, *mut i64, *mut c_void) -> i32;
type Execute = unsafe extern "C" fn(Raw, Raw, Raw) -> i32;
type SetStream = unsafe extern "C" fn(Raw, CUstream) -> i32;

/// The library, opened.
pub struct Cudnn {
    /// Used by one thread at a time.
    handle: Mutex<Handle>,
    /// The version as the library tells it, as 91400 for 9.14.0.
    pub version: u64,
    /// Where it was found.
    pub path: String,
    make: Make,
    destroy: Take,
    finalize: Take,
    set: Set,
    get: Get,
    execute: Execute,
    set_stream: SetStream,
    _library: libloading::Library,
}

struct Handle(Raw);

// SAFETY: handles may be used by any thread, one at a time.
unsafe impl Send for Handle {}

const NAMES: &[&str] = &["libcudnn.so.9", "libcudnn.so", "cudnn64_9.dll"];
const WHEELS: &[&str] = &["cudnn"];

/// Kinds of descriptors, and the names and types of attributes, by the numbers of the header `cudnn_graph.h`.
mod number {
    pub const CONVOLUTION: i32 = 1;
    pub const POINTWISE: i32 = 0;
    pub const ENGINE: i32 = 2;
    pub const CONFIG: i32 = 3;
    pub const HEURISTIC: i32 = 4;
    pub const PLAN: i32 = 5;
    pub const KNOB: i32 = 7;
    pub const CONVOLVE: i32 = 10;
    pub const APPLY: i32 = 13;
    pub const GRAPH: i32 = 15;
    pub const PACK: i32 = 16;
    pub const TENSOR: i32 = 17;
    pub const PRODUCT: i32 = 18;
    pub const MULTIPLY: i32 = 19;

    pub const HANDLE_TYPE: i32 = 0;
    pub const DATA_TYPE: i32 = 1;
    pub const BOOLEAN: i32 = 2;
    pub const INT64: i32 = 3;
    pub const FLOAT: i32 = 4;
    pub const DOUBLE: i32 = 5;
    pub const POINTER: i32 = 6;
    pub const MODE: i32 = 7;
    pub const HEURISTIC_MODE: i32 = 8;
    pub const KNOB_TYPE: i32 = 9;
    pub const NUMERICAL_NOTE: i32 = 11;
    pub const POINTWISE_MODE: i32 = 14;
    pub const DESCRIPTOR: i32 = 15;
}
use number::*;

/// Notes on numbers for which an engine is left out: inputs rounded down, sums of less precision, FFT, changing results, Winograd.
const REFUSED: std::ops::RangeInclusive<i32> = 1..=8;
/// The note of an engine on tensor cores: in strict `f32` those round to TF32.
const TENSOR_CORES: i32 = 0;
/// Bytes of workspace that a call may take.
const WORKSPACE: i64 = 64 << 20;

fn data_type(t: DType) -> Result<i32, Error> {
    match t {
        DType::F32 => Ok(0),
        DType::F16 => Ok(2),
        DType::BF16 => Ok(9),
        _ => Err(Error::Device(format!("cuDNN is not asked for {t}"))),
    }
}

/// A descriptor, destroyed when dropped.
struct Descriptor {
    raw: Raw,
    library: Arc<Cudnn>,
}

// SAFETY: only read once finalized, under the handle's lock.
unsafe impl Send for Descriptor {}
// SAFETY: as above.
unsafe impl Sync for Descriptor {}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by this library, and used by nothing else.
        unsafe { (self.library.destroy)(self.raw) };
    }
}

fn ok(call: &str, status: i32) -> Result<(), Error> {
    if status == 0 { Ok(()) } else { Err(Error::Device(format!("{call}: cuDNN status {status}"))) }
}

impl Descriptor {
    fn new(library: &Arc<Cudnn>, kind: i32) -> Result<Self, Error> {
        let mut raw = null_mut();
        // SAFETY: as the header says.
        ok("cudnnBackendCreateDescriptor", unsafe { (library.make)(kind, &raw mut raw) })?;
        Ok(Self { raw, library: library.clone() })
    }

    /// Sets an attribute to some values of a type.
    fn set<T>(self, name: i32, ty: i32, values: &[T]) -> Result<Self, Error> {
        // SAFETY: the values have the type that the header gives for the attribute.
        let status = unsafe { (self.library.set)(self.raw, name, ty, values.len() as i64, values.as_ptr().cast()) };
        ok(&format!("attribute {name} of cuDNN"), status).map(|()| self)
    }

    fn refer(self, name: i32, to: &[&Self]) -> Result<Self, Error> {
        let raw: Vec<Raw> = to.iter().map(|d| d.raw).collect();
        self.set(name, DESCRIPTOR, &raw)
    }

    fn finalize(self) -> Result<Self, Error> {
        // SAFETY: as the header says.
        ok("cudnnBackendFinalize", unsafe { (self.library.finalize)(self.raw) }).map(|()| self)
    }

    /// The values of an attribute, at most so many.
    fn get<T: Copy + Default>(&self, name: i32, ty: i32, most: usize) -> Result<Vec<T>, Error> {
        let mut values = vec![T::default(); most];
        let mut count = 0;
        // SAFETY: there is room for as many values as are asked for.
        let status = unsafe { (self.library.get)(self.raw, name, ty, most as i64, &raw mut count, values.as_mut_ptr().cast()) };
        ok(&format!("attribute {name} of cuDNN"), status)?;
        values.truncate(count.max(0) as usize);
        Ok(values)
    }

    /// The descriptors of a kind that an attribute holds.
    fn parts(&self, name: i32, kind: i32, most: usize) -> Result<Vec<Self>, Error> {
        let mut parts = (0..most).map(|_| Self::new(&self.library, kind)).collect::<Result<Vec<_>, _>>()?;
        let mut raw: Vec<Raw> = parts.iter().map(|p| p.raw).collect();
        let mut count = 0;
        // SAFETY: as many descriptors were made as are asked for.
        let status = unsafe { (self.library.get)(self.raw, name, DESCRIPTOR, most as i64, &raw mut count, raw.as_mut_ptr().cast()) };
        ok(&format!("attribute {name} of cuDNN"), status)?;
        parts.truncate(count.max(0) as usize);
        Ok(parts)
    }
}

/// A tensor of a graph that is an argument of the call.
#[derive(Clone, Copy)]
struct Argument {
    /// The tensor's number in the graph.
    id: i64,
    /// Which argument; `None` is the result.
    number: Option<usize>,
    /// Bytes from the argument's start.
    offset: u64,
}

/// A graph of operations.
struct Graph {
    raw: Descriptor,
    tensors: Vec<Argument>,
    /// What the graph refers to.
    _parts: Vec<Descriptor>,
}

/// A call that can be run.
pub struct Prepared {
    plan: Descriptor,
    /// Bytes that it needs beside its operands.
    pub workspace: usize,
    tensors: Vec<Argument>,
}

/// Extents and strides as cuDNN wants them: a dimension of one element has a stride as if there were more.
fn strides(extents: &[i64], at: &Strided) -> Vec<i64> {
    let most = extents.iter().zip(&at.strides).map(|(n, s)| n * s.max(&1)).max().unwrap_or(1);
    extents.iter().zip(&at.strides).map(|(&n, &s)| if n == 1 { most } else { s }).collect()
}

/// A graph being made.
struct Making<'a> {
    library: &'a Arc<Cudnn>,
    parts: Vec<Descriptor>,
    tensors: Vec<Argument>,
}

impl Making<'_> {
    /// A tensor: an argument's (counted from the first, `None` for the result), or one between operations.
    fn tensor(&mut self, dtype: DType, extents: &[i64], at: &Strided, argument: Option<Option<usize>>) -> Result<usize, Error> {
        let offset = at.offset as u64 * dtype.bytes() as u64;
        if !offset.is_multiple_of(16) {
            return Err(Error::Device("a tensor that cuDNN does not read aligned".to_owned()));
        }
        let id = self.parts.len() as i64;
        self.tensors.extend(argument.map(|number| Argument { id, number, offset }));
        let tensor = Descriptor::new(self.library, TENSOR)?
            .set(901, DATA_TYPE, &[data_type(dtype)?])?
            .set(902, INT64, extents)?
            .set(903, INT64, &strides(extents, at))?
            .set(906, INT64, &[id])?
            .set(900, INT64, &[16i64])?
            .set(907, BOOLEAN, &[argument.is_none()])?
            .finalize()?;
        self.parts.push(tensor);
        Ok(self.parts.len() - 1)
    }
}

impl Cudnn {
    /// Finds and opens the library; the device's context is current.
    pub fn open() -> Result<Self, Error> {
        let (library, path) = open(NAMES, WHEELS)?;
        let create: Create = symbol!(library, "cudnnCreate");
        let version: unsafe extern "C" fn() -> usize = symbol!(library, "cudnnGetVersion");
        let mut handle = null_mut();
        // SAFETY: both are as the header says.
        let version = unsafe {
            ok("cudnnCreate", create(&raw mut handle))?;
            version() as u64
        };
        Ok(Self {
            handle: Mutex::new(Handle(handle)),
            version,
            path,
            make: symbol!(library, "cudnnBackendCreateDescriptor"),
            destroy: symbol!(library, "cudnnBackendDestroyDescriptor"),
            finalize: symbol!(library, "cudnnBackendFinalize"),
            set: symbol!(library, "cudnnBackendSetAttribute"),
            get: symbol!(library, "cudnnBackendGetAttribute"),
            execute: symbol!(library, "cudnnBackendExecute"),
            set_stream: symbol!(library, "cudnnSetStream"),
            _library: library,
        })
    }

    fn graph(self: &Arc<Self>, handle: &Handle, linear: &Linear) -> Result<Graph, Error> {
        let mut m = Making { library: self, parts: vec![], tensors: vec![] };
        let extents = linear.extents();
        let between = |m: &mut Making<'_>, last: bool| match last {
            true => m.tensor(linear.out, &extents, linear.out(), Some(None)),
            false => m.tensor(DType::F32, &extents, &Strided { offset: 0, ..linear.out().clone() }, None),
        };
        let mut operations = vec![];
        let stages = &linear.epilogue;
        let mut value = match &linear.form {
            Form::Convolution(c) => {
                let e = |which: [usize; 4]| which.map(|i| c.extents[i]);
                let x = m.tensor(linear.factors, &e([0, 1, 2, 3]), &c.x, Some(Some(0)))?;
                let w = m.tensor(linear.factors, &e([4, 1, 5, 6]), &c.w, Some(Some(1)))?;
                let y = between(&mut m, stages.is_empty())?;
                let convolution = Descriptor::new(self, CONVOLUTION)?
                    .set(106, INT64, &[2i64])?
                    .set(100, DATA_TYPE, &[0i32])?
                    .set(101, MODE, &[1i32])?
                    .set(105, INT64, &c.before)?
                    .set(104, INT64, &c.after)?
                    .set(102, INT64, &c.dilations)?
                    .set(103, INT64, &c.strides)?
                    .finalize()?;
                let operation = Descriptor::new(self, CONVOLVE)?
                    .refer(702, &[&convolution])?
                    .refer(704, &[&m.parts[x]])?
                    .refer(703, &[&m.parts[w]])?
                    .refer(705, &[&m.parts[y]])?
                    .set(700, FLOAT, &[1.0f32])?
                    .set(701, FLOAT, &[0.0f32])?
                    .finalize()?;
                m.parts.push(convolution);
                operations.push(operation);
                y
            }
            Form::Product(p) => {
                let e = |which: [usize; 3]| which.map(|i| p.extents[i]);
                let x = m.tensor(linear.factors, &e([0, 1, 3]), &p.x, Some(Some(0)))?;
                let w = m.tensor(linear.factors, &e([0, 3, 2]), &p.w, Some(Some(1)))?;
                let y = between(&mut m, stages.is_empty())?;
                let product = Descriptor::new(self, PRODUCT)?.set(1500, DATA_TYPE, &[0i32])?.finalize()?;
                let operation = Descriptor::new(self, MULTIPLY)?
                    .refer(1523, &[&product])?
                    .refer(1520, &[&m.parts[x]])?
                    .refer(1521, &[&m.parts[w]])?
                    .refer(1522, &[&m.parts[y]])?
                    .finalize()?;
                m.parts.push(product);
                operations.push(operation);
                y
            }
        };
        for (i, stage) in stages.iter().enumerate() {
            let added = match stage {
                Stage::Add(a) => {
                    // Along a dimension that it is the same for it has one element.
                    let own: Vec<i64> = extents.iter().zip(&a.at.strides).map(|(&n, &s)| if s == 0 { 1 } else { n }).collect();
                    Some(m.tensor(a.dtype, &own, &a.at, Some(Some(a.arg as usize)))?)
                }
                Stage::Activate(_) => None,
            };
            let next = between(&mut m, i + 1 == stages.len())?;
            let mode = match stage {
                Stage::Add(_) => 0i32,
                Stage::Activate(Activation::Relu | Activation::Relu6) => 100,
                Stage::Activate(Activation::Tanh) => 101,
                Stage::Activate(Activation::Sigmoid) => 102,
                Stage::Activate(Activation::Gelu) => 104,
                Stage::Activate(Activation::Silu) => 106,
                Stage::Activate(Activation::GeluTanh) => 107,
            };
            let mut function = Descriptor::new(self, POINTWISE)?.set(0, POINTWISE_MODE, &[mode])?.set(1, DATA_TYPE, &[0i32])?;
            if *stage == Stage::Activate(Activation::Relu6) {
                function = function.set(4, DOUBLE, &[6.0f64])?;
            }
            let function = function.finalize()?;
            let mut operation = Descriptor::new(self, APPLY)?.refer(750, &[&function])?.refer(751, &[&m.parts[value]])?;
            if let Some(added) = added {
                operation = operation.refer(752, &[&m.parts[added]])?;
            }
            let operation = operation.refer(753, &[&m.parts[next]])?.finalize()?;
            m.parts.push(function);
            operations.push(operation);
            value = next;
        }
        let raw = Descriptor::new(self, GRAPH)?
            .set(800, HANDLE_TYPE, &[handle.0])?
            .refer(801, &operations.iter().collect::<Vec<_>>())?
            .finalize()?;
        let mut parts = m.parts;
        parts.extend(operations);
        Ok(Graph { raw, tensors: m.tensors, _parts: parts })
    }

    /// The calls that the library's heuristic proposes, at most so many.
    pub fn candidates(self: &Arc<Self>, linear: &Linear, most: usize) -> Result<Vec<Call>, Error> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let graph = self.graph(&handle, linear)?;
        let mut calls: Vec<Call> = vec![];
        // The heuristic by a model, then engines that do anything.
        for mode in [3i32, 2] {
            let heuristic = Descriptor::new(self, HEURISTIC)?.refer(201, &[&graph.raw])?.set(200, HEURISTIC_MODE, &[mode])?.finalize();
            let Ok(heuristic) = heuristic else { continue };
            for config in heuristic.parts(202, CONFIG, most)? {
                let Ok(call) = self.frozen(linear, &config) else { continue };
                if let Some(call) = call
                    && !calls.iter().any(|c| (c.engine, &c.knobs) == (call.engine, &call.knobs))
                {
                    calls.push(call);
                }
            }
        }
        calls.truncate(most);
        Ok(calls)
    }

    /// A configuration by its numbers; `None` where the engine is left out.
    fn frozen(self: &Arc<Self>, linear: &Linear, config: &Descriptor) -> Result<Option<Call>, Error> {
        let Some(engine) = config.parts(300, ENGINE, 1)?.pop() else { return Ok(None) };
        let notes: Vec<i32> = engine.get(1303, NUMERICAL_NOTE, 16)?;
        let strict = linear.factors == DType::F32 && !linear.tf32;
        if notes.iter().any(|n| REFUSED.contains(n) || strict && *n == TENSOR_CORES) {
            return Ok(None);
        }
        let index: Vec<i64> = engine.get(1301, INT64, 1)?;
        let mut knobs = vec![];
        for knob in config.parts(302, KNOB, 32)? {
            let (ty, value): (Vec<i32>, Vec<i64>) = (knob.get(600, KNOB_TYPE, 1)?, knob.get(601, INT64, 1)?);
            knobs.extend(ty.iter().zip(&value).map(|(&t, &v)| (i64::from(t), v)));
        }
        knobs.sort_unstable();
        let engine = index.first().copied().unwrap_or(-1);
        Ok(Some(Call { library: Library::Cudnn, version: self.version, linear: linear.clone(), engine, knobs, workspace: 0 }))
    }

    /// The plan of a call; it may be compiled for this.
    pub fn prepare(self: &Arc<Self>, call: &Call) -> Result<Prepared, Error> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let graph = self.graph(&handle, &call.linear)?;
        let engine = Descriptor::new(self, ENGINE)?.refer(1300, &[&graph.raw])?.set(1301, INT64, &[call.engine])?.finalize()?;
        let knob = |&(ty, value): &(i64, i64)| {
            Descriptor::new(self, KNOB)?.set(600, KNOB_TYPE, &[ty as i32])?.set(601, INT64, &[value])?.finalize()
        };
        let knobs = call.knobs.iter().map(knob).collect::<Result<Vec<_>, _>>()?;
        let mut config = Descriptor::new(self, CONFIG)?.refer(300, &[&engine])?;
        if !knobs.is_empty() {
            config = config.refer(302, &knobs.iter().collect::<Vec<_>>())?;
        }
        let config = config.finalize()?;
        let plan = Descriptor::new(self, PLAN)?.set(400, HANDLE_TYPE, &[handle.0])?.refer(401, &[&config])?.finalize()?;
        let workspace = plan.get::<i64>(402, INT64, 1)?.first().copied().unwrap_or(0);
        if workspace > WORKSPACE {
            return Err(Error::Device(format!("cuDNN wants {workspace} bytes of workspace")));
        }
        Ok(Prepared { plan, workspace: workspace as usize, tensors: graph.tensors })
    }

    /// Gives a stream a call; the last pointer is the result's, and the workspace is large enough.
    pub fn run(self: &Arc<Self>, call: &Prepared, pointers: &[u64], workspace: u64, stream: CUstream) -> Result<(), Error> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |t: &Argument| pointers.get(t.number.unwrap_or(pointers.len() - 1)).map(|p| p + t.offset);
        let data: Vec<u64> = call.tensors.iter().filter_map(at).collect();
        let ids: Vec<i64> = call.tensors.iter().map(|t| t.id).collect();
        let pack =
            Descriptor::new(self, PACK)?.set(1000, INT64, &ids)?.set(1001, POINTER, &data)?.set(1003, POINTER, &[workspace])?.finalize()?;
        // SAFETY: device memory of the step's operands, as large as the plan was verified to have.
        unsafe {
            ok("cudnnSetStream", (self.set_stream)(handle.0, stream))?;
            ok("cudnnBackendExecute", (self.execute)(handle.0, call.plan.raw, pack.raw))
        }
    }
}
