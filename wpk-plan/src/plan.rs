//! Plans: what runs, on which memory, after what.

use crate::codec::{Codec, DecodeError, Reader, codec_enum, codec_struct, unit_enum};
use crate::minifloat::Format;
use crate::{CpuSchedules, DType, GpuPlans, Module, Problem, View};

/// The version of the encoding; generated code asserts that compiler and runtime agree on it.
pub const VERSION: u32 = 19;

/// A model specialized for its declared sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// The model's name.
    pub name: String,
    /// The symbolic dimensions, in the order of the buckets' sizes.
    pub dims: Vec<Dim>,
    /// One plan for the CPU per combination of declared sizes.
    pub buckets: Vec<(Vec<usize>, Plan)>,
    /// How the products of CPU plans run on processors that were searched on.
    pub cpus: Vec<CpuSchedules>,
    /// Plans for GPUs.
    pub gpus: Vec<GpuPlans>,
    /// The weights that all buckets share, in one blob.
    pub sections: Vec<Section>,
}
codec_struct!(Program { name, dims, buckets, cpus, gpus, sections });

/// A symbolic dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dim {
    /// Its name in the model.
    pub name: String,
    /// The least size that runs in the plan of the next larger one; where it is none, only the plans' own sizes run.
    pub least: Option<usize>,
}
codec_struct!(Dim { name, least });

/// A dimension of a tensor whose extent is known when the plan runs; the tensor has room for the most there can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The dimension.
    pub axis: usize,
    /// What tells how many elements exist: a sum of these counts by factors,
    pub terms: Vec<(Count, i64)>,
    /// and this.
    pub plus: i64,
}
codec_struct!(Bound { axis, terms, plus });

impl Bound {
    /// How many elements exist, by the counts.
    pub fn end(&self, count: impl Fn(Count) -> usize) -> usize {
        let parts = self.terms.iter().map(|&(c, by)| (count(c) as i128).saturating_mul(by.into()));
        usize::try_from(parts.fold(self.plus.into(), i128::saturating_add).max(0)).unwrap_or(usize::MAX)
    }
}

/// What tells how many elements of a dimension exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The size of a symbolic dimension, by its number.
    Dim(u32),
    /// The only element of an output.
    Output(u32),
}
codec_enum!(Count { 0 => Dim(d), 1 => Output(i) });

/// One weight tensor in the blob.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Where its bytes begin, a multiple of 64.
    pub offset: usize,
    /// How many.
    pub bytes: usize,
    /// The element type as stored.
    pub dtype: DType,
    /// How its elements lie.
    pub layout: WeightLayout,
    /// Extents of the tensor as stored.
    pub shape: Vec<usize>,
}
codec_struct!(Section { offset, bytes, dtype, layout, shape });

unit_enum! {
    /// How a weight's elements lie in its section. New ones go to the end: the keys of tuning records hold their numbers.
    WeightLayout {
        /// Row-major, as the problem's view says.
        Dense = "dense",
        /// The second factor of a contraction as `[batch][n / 16][k][16]`, zero-padded: see [`crate::problem::Roles`].
        Panels16 = "panels16",
        /// The second factor of a contraction in bfloat16, to which the first is rounded too, as `[batch][n / 16][k / 2][16][2]`,
        /// zero-padded: see [`crate::problem::Roles`].
        Pairs16 = "pairs16",
        /// The second factor of a contraction in `i8` as `[batch][n / 16]` panels, each of sixteen `i32` (-128 times the sum of its column)
        /// and `[k / 4][16][4]`, zero-padded: see [`crate::problem::Roles`].
        Quads16 = "quads16",
        /// The second factor of a contraction as `[batch][n][k]`, `k` zero-padded to 16 bytes: see [`crate::problem::Roles`].
        Columns = "columns",
        /// The second factor of a contraction of `f32` as levels in `i8`, with a scale for every [`crate::problem::BLOCK`] of them:
        /// see [`crate::problem::Roles::levels`].
        Bytes16 = "bytes16",
        /// The same with levels of four bits.
        Nibbles16 = "nibbles16",
        /// As [`Self::Bytes16`], where a level is a number of type `f8e4m3`.
        E4m3x16 = "e4m3x16",
        /// As [`Self::Bytes16`], where a level is a number of type `f8e5m2`.
        E5m2x16 = "e5m2x16",
        /// As [`Self::Nibbles16`], where a level is a number of type `f4e2m1`.
        E2m1x16 = "e2m1x16",
        /// As [`Self::Panels16`], in binary16.
        Halves16 = "halves16",
    }
}

impl WeightLayout {
    /// Bits of a level, where weights are levels with scales.
    pub const fn levels(self) -> Option<usize> {
        match self {
            Self::Bytes16 | Self::E4m3x16 | Self::E5m2x16 => Some(8),
            Self::Nibbles16 | Self::E2m1x16 => Some(4),
            _ => None,
        }
    }

    /// The type of the numbers that levels are; integers where there is none.
    pub const fn numbers(self) -> Option<DType> {
        match self {
            Self::E4m3x16 => Some(DType::F8E4M3),
            Self::E5m2x16 => Some(DType::F8E5M2),
            Self::E2m1x16 => Some(DType::F4E2M1),
            _ => None,
        }
    }

    /// The number that the bits of a level stand for.
    pub fn number(self, bits: u8) -> f32 {
        match (self.numbers().and_then(Format::of), self.levels()) {
            (Some(format), _) => format.decode(bits) as f32,
            (None, Some(4)) => f32::from((bits << 4) as i8 >> 4),
            _ => f32::from(bits as i8),
        }
    }
}

/// What runs for one combination of sizes on one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it was made for: `cpu`, or a GPU by name.
    pub target: String,
    /// The tensors the caller gives.
    pub inputs: Vec<Port>,
    /// The tensors the caller gets.
    pub outputs: Vec<Port>,
    /// Bytes of the arena that holds every intermediate.
    pub arena: usize,
    /// Bytes at the arena's end that are zero before the first step, and that every launch leaves zero.
    pub zeroed: usize,
    /// What runs.
    pub body: Body,
}
codec_struct!(Plan { target, inputs, outputs, arena, zeroed, body });

/// A named tensor at the border.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its extents.
    pub shape: Vec<usize>,
    /// Which of them are known when the plan runs.
    pub bounds: Vec<Bound>,
    /// Whose it is.
    pub role: Role,
}
codec_struct!(Port { name, dtype, shape, bounds, role });

/// Whose a tensor at the border is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// The model's.
    #[default]
    Own,
    /// The runtime's: an input that is the size of a symbolic dimension, by its number.
    Size(u32),
    /// The runtime's: an output that counts what exists of others.
    Count,
}
codec_enum!(Role { 0 => Own, 1 => Size(d), 2 => Count });

impl Plan {
    /// The model's own inputs; the runtime's follow.
    pub fn given(&self) -> &[Port] {
        &self.inputs[..self.inputs.iter().position(|p| p.role != Role::Own).unwrap_or(self.inputs.len())]
    }

    /// The model's own outputs; the runtime's follow.
    pub fn results(&self) -> &[Port] {
        &self.outputs[..self.outputs.iter().position(|p| p.role != Role::Own).unwrap_or(self.outputs.len())]
    }
}

impl Port {
    /// Bytes of the dense tensor.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

/// Blocks in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Body {
    /// Each waits for the one before.
    pub blocks: Vec<Block>,
}
codec_struct!(Body { blocks });

/// A node of the plan's tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Steps, ordered by their edges alone.
    Run(Vec<Step>),
    /// The first body where the boolean argument is true, else the second.
    If(Arg, Body, Body),
    /// The body at most `limit` times, while the boolean argument is true.
    Loop(u64, Arg, Body),
}
codec_enum!(Block { 0 => Run(steps), 1 => If(cond, then, other), 2 => Loop(limit, cond, body) });

/// One unit of work.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What runs.
    pub kernel: Kernel,
    /// Its operands: inputs, then outputs.
    pub args: Vec<Arg>,
    /// The earlier steps of the run that it waits for.
    pub after: Vec<Edge>,
    /// The ONNX nodes it came from.
    pub origin: String,
    /// Why this kernel: what else was considered.
    pub why: String,
}
codec_struct!(Step { kernel, args, after, origin, why });

/// What runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Kernel {
    /// A CPU kernel of the runtime; a contraction's second factor has the given layout.
    Cpu(Problem, WeightLayout),
    /// The launch of a module by number. Behind its operands it takes memory of its own where it needs any.
    Gpu(Problem, WeightLayout, u32),
}
codec_enum!(Kernel { 0 => Cpu(problem, layout), 1 => Gpu(problem, layout, module) });

impl Kernel {
    /// What is computed.
    pub fn problem(&self) -> &Problem {
        match self {
            Self::Cpu(problem, _) | Self::Gpu(problem, ..) => problem,
        }
    }

    /// How the second factor of a contraction lies.
    pub fn layout(&self) -> WeightLayout {
        match self {
            Self::Cpu(_, layout) | Self::Gpu(_, layout, _) => *layout,
        }
    }
}

/// That a step waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The earlier step's place in the run.
    pub step: u32,
    /// How it waits.
    pub kind: EdgeKind,
}
codec_struct!(Edge { step, kind });

unit_enum! {
    /// How one step waits for another.
    EdgeKind {
        /// Until it has ended and its writes are visible.
        Full = "full",
        /// Until it allows its dependents to start; they wait in the kernel.
        Programmatic = "programmatic",
    }
}

/// An operand's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arg {
    /// Where it is.
    pub place: Place,
    /// The element type as stored.
    pub dtype: DType,
    /// Bytes from its start that may be touched.
    pub bytes: usize,
}
codec_struct!(Arg { place, dtype, bytes });

/// Where an operand lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At a byte of the arena.
    Arena(usize),
    /// In a weight section.
    Weight(u32),
    /// A caller's input.
    Input(u32),
    /// A caller's output.
    Output(u32),
    /// An immediate value.
    Scalar(u64),
    /// A slot of the session's parameter block.
    Parameter(u32),
}
codec_enum!(Place {
    0 => Arena(offset),
    1 => Weight(section),
    2 => Input(i),
    3 => Output(i),
    4 => Scalar(bits),
    5 => Parameter(slot),
});

const MAGIC: &[u8; 4] = b"wpk\0";

impl Program {
    /// The versioned byte string that generated code holds.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        VERSION.encode(&mut out);
        self.encode(&mut out);
        out
    }

    /// Reads a byte string of [`Program::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(DecodeError::Malformed("header"))?;
        let mut reader = Reader::new(rest);
        let found = u32::decode(&mut reader)?;
        if found != VERSION {
            return Err(DecodeError::Version { found });
        }
        let program = Self::decode(&mut reader)?;
        if reader.is_empty() { Ok(program) } else { Err(DecodeError::Malformed("tail")) }
    }

    /// Bytes of the weight blob.
    pub fn weight_bytes(&self) -> usize {
        self.sections.iter().map(|s| s.offset + s.bytes).max().unwrap_or(0)
    }
}

impl Body {
    /// Every step, in order of the tree.
    pub fn steps(&self) -> Vec<&Step> {
        let mut all = vec![];
        for block in &self.blocks {
            match block {
                Block::Run(steps) => all.extend(steps),
                Block::If(_, a, b) => all.extend(a.steps().into_iter().chain(b.steps())),
                Block::Loop(_, _, body) => all.extend(body.steps()),
            }
        }
        all
    }
}

impl Step {
    /// The arguments of the kernel of a module: the operands and memory of its own, without the workspace of a call.
    pub fn arguments(&self, module: &Module) -> Vec<Arg> {
        let workspace = self.workspace(module).is_some();
        let operands = self.operand_count();
        self.args.iter().enumerate().filter(|(i, _)| !(workspace && *i == operands)).map(|a| *a.1).collect()
    }

    /// The workspace of the call of a module: behind the operands, where it takes any.
    pub fn workspace(&self, module: &Module) -> Option<Arg> {
        let call = module.call.as_ref().filter(|c| c.workspace > 0)?;
        self.args.get(self.operand_count()).copied().filter(|a| a.bytes >= call.workspace)
    }

    /// How many operands it has: inputs, then outputs.
    pub fn operand_count(&self) -> usize {
        let problem = self.kernel.problem();
        problem.inputs().len() + problem.outputs().len()
    }

    /// Each operand's place beside the view that the kernel takes of it.
    pub fn operands(&self) -> Vec<(Arg, DType, View)> {
        let problem = self.kernel.problem();
        let operands = problem.inputs().into_iter().chain(problem.outputs());
        self.args.iter().zip(operands).map(|(a, o)| (*a, o.dtype, o.view)).collect()
    }
}
