//! Nodes as steps over buffers.

use super::cost::VECTOR;
use super::phases::phases;
use super::placement::{Accepts, Placement, accepts};
use super::{Weights, problem};
use crate::graph::{Def, Graph, Literal, Node, Op, ValueId};
use crate::model::Precision;
use wpk_kernels::family::reads_levels;
use wpk_plan::problem::{AccessDim, Contraction, Move, Operand, Part, Problem};
use wpk_plan::{DType, View, WeightLayout};

/// Memory before it has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Buffer {
    /// An intermediate, by number.
    Arena(usize),
    /// A weight section.
    Weight(u32),
    /// A caller's input.
    Input(usize),
    /// A caller's output.
    Output(usize),
}

/// A step before memory is assigned.
#[derive(Clone)]
pub struct Draft {
    pub problem: Problem,
    pub layout: WeightLayout,
    /// Inputs, then outputs.
    pub args: Vec<(Buffer, DType)>,
    pub origin: String,
    pub why: String,
    /// What runs on a GPU instead of the runtime's own kernel.
    pub launch: Option<Launch>,
}

/// A generated kernel.
#[derive(Clone, Copy)]
pub struct Launch {
    pub module: u32,
    /// Bytes of its own that are zero before it and after it.
    pub zeroed: usize,
    /// Whether it may start before the steps it depends on have ended.
    pub overlaps: bool,
}

/// All steps, with the bytes of every intermediate and other buffer they name.
pub struct Drafts {
    pub steps: Vec<Draft>,
    /// Bytes by number of the intermediate.
    pub arena: Vec<usize>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    pub weights: Vec<usize>,
}

/// Where a value's elements are.
#[derive(Clone)]
enum Home {
    Buffer(Buffer),
    Const(ValueId),
}

struct Lowering<'a> {
    graph: &'a Graph,
    weights: &'a mut Weights,
    homes: Vec<Option<(Home, View)>>,
    dense: Vec<Option<Buffer>>,
    placement: Placement,
    target: Target<'a>,
    arena: Vec<usize>,
    steps: Vec<Draft>,
}

/// What steps are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The runtime's kernels, with the precision of constant weights: of bfloat16 both factors, of binary16 the weights of a few rows.
    Cpu(Precision),
    /// Generated kernels.
    Gpu {
        /// Whether products of `f32` may be rounded to TF32.
        tf32: bool,
        /// Patterns of the names of nodes where they may not.
        keep_fp32: &'a [String],
    },
}

/// Lowers every node.
pub fn lower(graph: &Graph, weights: &mut Weights, target: Target<'_>) -> Drafts {
    let mut arena = vec![];
    let placement = Placement::new(graph, matches!(target, Target::Cpu(_)), &mut |bytes| fresh(&mut arena, bytes));
    let n = graph.values.len();
    let mut l = Lowering { graph, weights, homes: vec![None; n], dense: vec![None; n], placement, target, arena, steps: vec![] };
    for (i, value) in graph.values.iter().enumerate() {
        let home = match value.def {
            Def::Input(n) => Home::Buffer(Buffer::Input(n)),
            Def::Const(_) => Home::Const(ValueId(i as u32)),
            Def::Node(..) | Def::Sequence(_) => continue,
        };
        l.homes[i] = Some((home, View::dense(&value.shape)));
    }
    for node in &graph.nodes {
        l.node(node);
    }
    for (o, (name, id)) in graph.outputs.iter().enumerate() {
        let (home, view) = l.home(*id);
        let placed = matches!(home, Home::Buffer(Buffer::Output(at)) if at == o) && view.is_dense() && view.offset == 0;
        if !placed && !view.is_empty() {
            l.copy(*id, Buffer::Output(o), View::dense(graph.shape(*id)), format!("output {name}"));
        }
    }
    Drafts {
        inputs: graph.inputs.iter().map(|i| graph.bytes(i.1)).collect(),
        outputs: graph.outputs.iter().map(|o| graph.bytes(o.1)).collect(),
        steps: l.steps,
        arena: l.arena,
        weights: l.weights.section_bytes(),
    }
}

/// Memory with channels last for a tensor that has them behind its batch.
fn channels_last(shape: &[usize]) -> Option<View> {
    let [batch, channels, rest @ ..] = shape else { return None };
    let memory: Vec<usize> = [&[*batch], rest, &[*channels]].concat();
    let back: Vec<usize> = [&[0, rest.len() + 1][..], &(1..=rest.len()).collect::<Vec<_>>()].concat();
    (!rest.is_empty()).then(|| View::dense(&memory).transpose(&back))
}

/// Whether a convolution reads a value's channels as neighbours where it lies so; `None` where some reader takes no such strides.
fn reads_channels_last(graph: &Graph, v: ValueId, lies: &View) -> Option<bool> {
    let mut any = false;
    if graph.outputs.iter().any(|o| o.1 == v) {
        return None;
    }
    for (node, i) in graph.nodes.iter().flat_map(|n| n.inputs.iter().enumerate().filter(|(_, x)| **x == v).map(move |(i, _)| (n, i))) {
        if node.op.is_view() {
            any |= reads_channels_last(graph, node.outputs[0], &crate::graph::view(&node.op, lies)?)?;
            continue;
        }
        let neighbours = lies.strides.last() == Some(&1);
        match accepts(&node.op, i) {
            Accepts::Any => {}
            Accepts::Rows if neighbours => {}
            _ => return None,
        }
        any |= neighbours && i == 0 && matches!(node.op, Op::Conv(_));
    }
    Some(any)
}

fn fresh(arena: &mut Vec<usize>, bytes: usize) -> Buffer {
    arena.push(bytes);
    Buffer::Arena(arena.len() - 1)
}

impl Lowering<'_> {
    fn home(&self, v: ValueId) -> (Home, View) {
        self.homes[v.0 as usize].clone().unwrap_or((Home::Const(v), View::dense(self.graph.shape(v))))
    }

    fn argument(&mut self, v: ValueId) -> (Buffer, DType) {
        let dtype = self.graph.dtype(v);
        match self.home(v).0 {
            Home::Buffer(buffer) => (buffer, dtype),
            Home::Const(c) => {
                let section = self.graph.literal(c).map_or(0, |l| self.weights.dense(l));
                (Buffer::Weight(section), dtype)
            }
        }
    }

    fn copy(&mut self, v: ValueId, to: Buffer, out: View, origin: String) {
        self.copy_for(v, to, out, origin, "copied: its reader takes no such strides");
    }

    fn copy_for(&mut self, v: ValueId, to: Buffer, mut out: View, origin: String, why: &str) {
        let mut dtype = self.graph.dtype(v);
        let mut from = self.home(v).1;
        if dtype == DType::Text {
            // Kernels copy numbers: the words of every element.
            let words = (DType::Text.bytes() / DType::U64.bytes()) as i64;
            for view in [&mut from, &mut out] {
                view.offset *= words as usize;
                view.strides.iter_mut().for_each(|s| *s *= words);
                view.shape.push(words as usize);
                view.strides.push(1);
            }
            dtype = DType::U64;
        }
        let args = vec![(self.argument(v).0, dtype), (to, dtype)];
        let problem = Problem::Move(Move { dtype, parts: vec![Part { from, to: out.clone() }], out, fill: None });
        self.steps.push(Draft { problem, layout: WeightLayout::Dense, args, origin, why: why.to_owned(), launch: None });
    }

    /// An operand in a form that its reader accepts, copied if need be.
    fn operand(&mut self, v: ValueId, accepts: Accepts, origin: &str) -> (Operand, (Buffer, DType)) {
        let (_, view) = self.home(v);
        let fine = match accepts {
            Accepts::Any => true,
            Accepts::Rows => view.is_empty() || view.shape.last().is_none_or(|&n| n == 1) || view.strides.last() == Some(&1),
            Accepts::Dense => view.is_dense() && view.offset == 0,
        };
        let dtype = self.graph.dtype(v);
        if fine {
            return (Operand { dtype, view }, self.argument(v));
        }
        let shape = self.graph.shape(v).to_vec();
        let buffer = match self.dense[v.0 as usize] {
            Some(buffer) => buffer,
            None => {
                let buffer = fresh(&mut self.arena, self.graph.bytes(v));
                self.copy(v, buffer, View::dense(&shape), origin.to_owned());
                self.dense[v.0 as usize] = Some(buffer);
                buffer
            }
        };
        (Operand::dense(dtype, &shape), (buffer, dtype))
    }

    /// What an operation accepts of a value: processors gather images of many channels element by element unless those are neighbours, which takes longer than
    /// a copy.
    fn accepts(&self, op: &Op, i: usize, v: ValueId) -> Accepts {
        let channels = self.graph.shape(v).last().copied().unwrap_or(1);
        let image = i == 0 && channels >= VECTOR && matches!(op, Op::Conv(c) if c.channels_last);
        if image && matches!(self.target, Target::Cpu(_)) { Accepts::Rows } else { accepts(op, i) }
    }

    fn node(&mut self, node: &Node) {
        let origin = node.origin.to_string();
        if node.op.is_view() {
            return self.view(node, &origin);
        }
        let mut inputs = vec![];
        let mut args = vec![];
        let weighted = matches!(node.op, Op::Conv(_) | Op::Contract { .. });
        for (i, &v) in node.inputs.iter().enumerate() {
            // A constant second factor gets its layout, and with it its section, below.
            if let (true, 1, (Home::Const(_), view)) = (weighted, i, self.home(v)) {
                inputs.push(Operand { dtype: self.graph.dtype(v), view });
                args.push((Buffer::Weight(u32::MAX), self.graph.dtype(v)));
                continue;
            }
            let (operand, arg) = self.operand(v, self.accepts(&node.op, i, v), &origin);
            inputs.push(operand);
            args.push(arg);
        }
        if let Op::BitCast(to) = node.op {
            args[0].1 = to;
        }
        let mut outputs = vec![];
        for &o in &node.outputs {
            let (graph, arena) = (self.graph, &mut self.arena);
            let (buffer, view) = self.placement.of(graph, o, &mut |bytes| fresh(arena, bytes));
            self.homes[o.0 as usize] = Some((Home::Buffer(buffer), view.clone()));
            args.push((buffer, graph.dtype(o)));
            outputs.push(Operand { dtype: graph.dtype(o), view });
        }
        if outputs.iter().all(|o| o.view.is_empty()) {
            return;
        }
        let Some(mut problem) = problem(&node.op, &inputs, &outputs) else { return };
        let tf32 = matches!(self.target, Target::Gpu { tf32: true, keep_fp32 } if !node.origin.matches(keep_fp32));
        match &mut problem {
            Problem::Contraction(c) => {
                c.tf32 = tf32 && c.dtype == DType::F32 && c.sum == DType::F32;
                return self.contraction(c.clone(), node, &args, &origin);
            }
            Problem::Attention(a) => a.tf32 = tf32 && a.q.dtype == DType::F32,
            Problem::Move(m) => {
                already_there(m, &mut args);
                if m.parts.is_empty() && m.fill.is_none() {
                    return;
                }
            }
            _ => {}
        }
        self.steps.push(Draft { problem, layout: WeightLayout::Dense, args, origin, why: String::new(), launch: None });
    }

    /// A contraction, on GPUs by its phases, each with its weights as its kernel reads them.
    fn contraction(&mut self, c: Contraction, node: &Node, args: &[(Buffer, DType)], origin: &str) {
        let parts = if matches!(self.target, Target::Cpu(_)) { vec![c] } else { phases(c) };
        for mut c in parts {
            let mut args = args.to_vec();
            let (layout, why) = self.weights_of(&mut c, node, &mut args);
            self.steps.push(Draft { problem: Problem::Contraction(c), layout, args, origin: origin.to_owned(), why, launch: None });
        }
    }

    /// A view of the input where strides can say it, else of a copy.
    fn view(&mut self, node: &Node, origin: &str) {
        let (v, out) = (node.inputs[0], node.outputs[0]);
        let (home, own) = self.home(v);
        if own.is_empty() {
            self.homes[out.0 as usize] = Some((home, View::dense(self.graph.shape(out))));
            return;
        }
        if let Some(view) = crate::graph::view(&node.op, &own) {
            self.homes[out.0 as usize] = Some((home, view));
            return;
        }
        if let Op::Reshape(to) = &node.op
            && let Some((copied, view)) = channels_last(to).and_then(|view| Some((view.reshape(&own.shape)?, view)))
            && self.graph.dtype(v) != DType::Text
            && reads_channels_last(self.graph, out, &view) == Some(true)
        {
            let buffer = fresh(&mut self.arena, self.graph.bytes(v));
            self.copy_for(v, buffer, copied, origin.to_owned(), "copied with channels last: its reader multiplies them");
            self.homes[out.0 as usize] = Some((Home::Buffer(buffer), view));
            return;
        }
        let (operand, (buffer, _)) = self.operand(v, Accepts::Dense, origin);
        let view = crate::graph::view(&node.op, &operand.view).unwrap_or_else(|| View::dense(self.graph.shape(out)));
        self.homes[out.0 as usize] = Some((Home::Buffer(buffer), view));
    }

    /// Puts the constant second factor of a contraction into the layout its kernel reads.
    fn weights_of(&mut self, c: &mut Contraction, node: &Node, args: &mut [(Buffer, DType)]) -> (WeightLayout, String) {
        let (Home::Const(root), _) = self.home(node.inputs[1]) else {
            return (WeightLayout::Dense, "second factor computed at run time".to_owned());
        };
        let Some(literal) = self.graph.literal(root) else { return (WeightLayout::Dense, String::new()) };
        let half = c.dtype.is_float() && c.dtype.bytes() == 2;
        let pairs = self.target == Target::Cpu(Precision::Bf16) && !filtered(c);
        let halves = self.target == Target::Cpu(Precision::Fp16) && rows(c) <= FEW;
        let single = c.dtype == DType::F32 && c.sum == DType::F32;
        let bytes = c.dtype == DType::I8;
        let on_cpu = matches!(self.target, Target::Cpu(_));
        let as_levels = if on_cpu { single } else { (single || half) && reads_levels(c) };
        let (section, layout, why) = if let Some(section) = (single || half || bytes).then(|| self.by_channel(c, literal)).flatten() {
            (section, WeightLayout::Dense, "channelwise, weights by tap".to_owned())
        } else if let Some(section) = (bytes && on_cpu).then(|| self.weights.quads(literal, c)).flatten() {
            (section, WeightLayout::Quads16, "weights in quads of bytes".to_owned())
        } else if let Some((section, layout)) = as_levels.then(|| self.weights.levels(literal, c)).flatten() {
            (section, layout, "weights as levels".to_owned())
        } else if let Some(section) = (half || c.tf32 || bytes).then(|| self.weights.columns(literal, c)).flatten() {
            (section, WeightLayout::Columns, "weights in columns".to_owned())
        } else if let Some(section) = (single && halves).then(|| self.weights.halves(literal, c)).flatten() {
            (section, WeightLayout::Halves16, "weights in binary16".to_owned())
        } else if let Some(section) = (single && pairs).then(|| self.weights.pairs(literal, c)).flatten() {
            (section, WeightLayout::Pairs16, "weights in pairs of bfloat16".to_owned())
        } else if let Some(section) = single.then(|| self.weights.panels(literal, c)).flatten() {
            (section, WeightLayout::Panels16, "weights in panels".to_owned())
        } else {
            (self.weights.dense(literal), WeightLayout::Dense, format!("plain loops over {}", c.dtype))
        };
        args[1].0 = Buffer::Weight(section);
        (layout, why)
    }

    /// For one weight per channel and tap: a section in which channels are neighbours, and the access that reads it.
    fn by_channel(&mut self, c: &mut Contraction, literal: &Literal) -> Option<u32> {
        let roles = c.roles();
        if !roles.n.is_empty() || roles.channel.is_some() || roles.batch.is_empty() {
            return None;
        }
        let dim_of = |l: &usize| c.b.dims.iter().position(|d| d.index.terms.iter().any(|t| usize::from(t.0) == *l && t.1 != 0));
        let moved: Vec<usize> = roles.taps.iter().chain(&roles.batch).map(dim_of).collect::<Option<_>>()?;
        let perm: Vec<usize> = (0..c.b.dims.len()).filter(|d| !moved.contains(d)).chain(moved.iter().copied()).collect();
        let shape: Vec<usize> = c.b.dims.iter().map(|d| d.extent).collect();
        if c.b.view() != View::dense(&shape) || shape.iter().product::<usize>() != literal.len() || perm.len() != shape.len() {
            return None;
        }
        let reordered = View::dense(&perm.iter().map(|&p| shape[p]).collect::<Vec<_>>());
        perm.iter().enumerate().for_each(|(i, &d)| c.b.dims[d].stride = reordered.strides[i]);
        Some(self.weights.permuted(&Literal { shape, ..literal.clone() }, perm))
    }
}

/// Rows up to which a product takes as long as its weights are read.
const FEW: usize = 32;

fn rows(c: &Contraction) -> usize {
    let roles = c.roles();
    roles.count(&roles.m)
}

/// Whether minimal filtering in `f32` takes less than half the products of a convolution, so less time than all of them in bfloat16: 3 by 3, by
/// steps of one, with transformed weights that do not come from memory.
fn filtered(c: &Contraction) -> bool {
    const MOST: usize = 9 * 256 * 256;
    const LEAST: usize = 64;
    let roles = c.roles();
    let by_one = |d: &AccessDim| {
        let moved = d.index.terms.iter().any(|t| roles.taps.contains(&usize::from(t.0)) && c.space[usize::from(t.0)] > 1);
        !moved || d.index.divisor == 1 && d.index.terms.iter().all(|t| t.1 == 1)
    };
    let (n, k) = (roles.count(&roles.n), roles.count(&roles.k()));
    let taps: Vec<usize> = roles.taps.iter().map(|&l| c.space[l]).filter(|&size| size > 1).collect();
    taps == [3, 3] && c.a.dims.iter().all(by_one) && n >= LEAST && k >= 9 * LEAST && n * k <= MOST
}

/// Drops the parts of a move that were written in place.
fn already_there(m: &mut Move, args: &mut Vec<(Buffer, DType)>) {
    let target = args[args.len() - 1].0;
    let mut keep = m.parts.iter().zip(args.iter()).map(|(p, a)| a.0 != target || p.from != p.to).collect::<Vec<_>>();
    let mut parts = keep.iter();
    m.parts.retain(|_| *parts.next().unwrap_or(&true));
    keep.push(true);
    let mut flags = keep.iter();
    args.retain(|_| *flags.next().unwrap_or(&true));
}
