//! The inference plan: what the compiler decides and the runtime executes.
//!
//! A [`Program`] is a model specialized for its declared sizes: one [`Plan`] per bucket over one blob of weights.
//! A plan's steps carry [`Problem`]s, which say what a kernel computes and where its operands lie, with no word of how.
//! Everything here is plain data with a text form, a verifier and a byte encoding.

#![forbid(unsafe_code)]

mod bounds;
mod codec;
mod cpu;
mod dtype;
mod gpu;
pub mod library;
pub mod minifloat;
pub mod number;
mod parts;
mod plan;
pub mod problem;
mod scalar;
mod text;
mod verify;
mod view;
mod walk;

pub use codec::{Bytes, Codec, DecodeError, Reader};
pub use cpu::{Blocking, CpuSchedule, CpuSchedules, CpuStep, Filtering};
pub use dtype::DType;
pub use gpu::{Cubin, GpuPlans, Images, Module, TensorMap};
pub use parts::Parts;
pub use plan::{
    Arg, Block, Body, Bound, Count, Dim, Edge, EdgeKind, Kernel, Place, Plan, Port, Program, Role, Section, Step, VERSION, WeightLayout,
};
pub use problem::{Operand, Problem};
pub use scalar::{Binary, Expr, Inst, ScalarFn, Unary};
pub use verify::Fault;
pub use view::View;
pub use walk::Walk;
