//! What an operator's importer works with.

use crate::graph::{Builder, Def, Linear, Literal, ValueId};
use crate::import::{Importer, State};
use crate::onnx::{Attributes, Source};
use wpk_plan::DType;

/// Why a node cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One sentence without the node, which the caller adds.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Refusal {
    /// What was told already, about a node within the node.
    pub fn reported() -> Self {
        Self { message: String::new(), help: None }
    }

    /// Whether it was.
    pub fn is_reported(&self) -> bool {
        self.message.is_empty()
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { message, help: None }
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

/// The result of importing one node: its outputs in order.
pub type Imported = Result<Vec<ValueId>, Refusal>;

/// One ONNX node on its way into the graph.
pub struct Context<'a> {
    /// The graph so far.
    pub b: &'a mut Builder,
    /// The node's attributes.
    pub attrs: Attributes<'a>,
    /// The version of the operator set.
    pub opset: i64,
    /// The node's inputs; `None` where one is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Whether each output is wanted.
    pub wanted: Vec<bool>,
    /// What else the import knows: names, and what was refused.
    pub state: &'a mut State,
    /// The file, for tensors in attributes.
    pub source: &'a Source,
}

impl Context<'_> {
    /// Input `i`, which the operator requires.
    pub fn input(&self, i: usize) -> Result<ValueId, Refusal> {
        let v = self.optional(i).ok_or_else(|| format!("input {i} is missing"))?;
        match self.b.graph.value(v).def {
            Def::Sequence(_) => Err(format!("input {i} is a sequence").into()),
            _ => Ok(v),
        }
    }

    /// The values of the sequence in input `i`.
    pub fn sequence(&self, i: usize) -> Result<Vec<ValueId>, Refusal> {
        match self.optional(i).map(|v| &self.b.graph.value(v).def) {
            Some(Def::Sequence(values)) => Ok(values.clone()),
            _ => Err(format!("input {i} is no sequence").into()),
        }
    }

    /// The outputs of the graph in an attribute for some inputs; its nodes join the graph.
    pub fn body(&mut self, attribute: &str, inputs: &[ValueId]) -> Imported {
        let Some(graph) = self.attrs.get(attribute).and_then(|a| a.g.as_ref()) else {
            return Err(format!("attribute {attribute} holds no graph").into());
        };
        Importer { source: self.source, b: self.b, state: self.state }.subgraph(graph, inputs)
    }

    /// A position in a sequence of `n` from a constant in input `i`, the last by default.
    pub fn position(&self, i: usize, n: usize) -> Result<Option<usize>, Refusal> {
        let Some(at) = self.constant(i, "position")?.and_then(|l| l.to_ints().first().copied()) else { return Ok(None) };
        let from_start = if at < 0 { at.saturating_add(n as i64) } else { at };
        let position = usize::try_from(from_start).ok().filter(|&p| p <= n);
        position.map(Some).ok_or_else(|| format!("position {at} is not in a sequence of {n}").into())
    }

    /// Input `i`, where it is given.
    pub fn optional(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// Every input, all of which must be given.
    pub fn all(&self) -> Result<Vec<ValueId>, Refusal> {
        (0..self.inputs.len()).map(|i| self.input(i)).collect()
    }

    /// The extents of a value.
    pub fn shape(&self, v: ValueId) -> Vec<usize> {
        self.b.shape(v)
    }

    /// The element type of a value.
    pub fn dtype(&self, v: ValueId) -> DType {
        self.b.dtype(v)
    }

    /// The constant in input `i`, which must be known at build time where it is given.
    pub fn constant(&self, i: usize, what: &str) -> Result<Option<Literal>, Refusal> {
        let Some(v) = self.optional(i) else { return Ok(None) };
        match self.b.fixed(v) {
            Some(literal) => Ok(Some(literal.clone())),
            None if self.b.graph.literal(v).is_some() => {
                Err(format!("{what} (input {i}) is computed from a size that is known at run time only").into())
            }
            None => Err(at_run_time(i, what)),
        }
    }

    /// Integers in input `i`, as they follow from sizes that are known at run time only.
    pub fn sizes(&self, i: usize, what: &str) -> Result<Option<Vec<Linear>>, Refusal> {
        let Some(v) = self.optional(i) else { return Ok(None) };
        self.b.forms(v).map(Some).ok_or_else(|| at_run_time(i, what))
    }

    /// The most that extents can be.
    pub fn extents(&self, sizes: &[Linear], what: &str) -> Result<Vec<usize>, Refusal> {
        unsigned(&sizes.iter().map(|n| self.b.most(n)).collect::<Vec<_>>(), what)
    }

    /// Refuses a result whose dimensions from `first` on are known not to have the extents that follow from sizes.
    pub fn agree(&self, v: ValueId, first: usize, sizes: &[Linear]) -> Result<(), Refusal> {
        for (i, wanted) in sizes.iter().enumerate().filter(|n| n.1.known().is_none()) {
            if self.b.extent(v, first + i)? != *wanted {
                return Err(format!(
                    "extent {} is computed from a size that is known at run time only, and does not follow from the input's",
                    first + i
                )
                .into());
            }
        }
        Ok(())
    }

    /// Integers that newer versions take as input `i` and older ones as an attribute.
    pub fn ints(&self, i: usize, name: &str) -> Result<Option<Vec<i64>>, Refusal> {
        match self.constant(i, name)? {
            Some(literal) => Ok(Some(literal.to_ints())),
            None => Ok(self.attrs.ints(name)),
        }
    }

    /// A dimension of a tensor; negative ones count from the end.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, Refusal> {
        let at = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        usize::try_from(at).ok().filter(|&a| a < rank).ok_or_else(|| format!("axis {axis} is not in a tensor of {rank} dimensions").into())
    }

    /// Several dimensions, each at most once.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, Refusal> {
        let mut found = vec![];
        for &axis in axes {
            let axis = self.axis(axis, rank)?;
            if found.contains(&axis) {
                return Err(format!("axis {axis} is named twice").into());
            }
            found.push(axis);
        }
        Ok(found)
    }

    /// The pixels along a side of the blocks that `DepthToSpace` and `SpaceToDepth` rearrange.
    pub fn block(&self) -> Result<usize, Refusal> {
        let block = self.attrs.int("blocksize").and_then(|n| usize::try_from(n).ok());
        block.filter(|n| (1..=1 << 16).contains(n)).ok_or_else(|| "there is no usable blocksize".into())
    }

    /// Refuses an attribute value.
    pub fn unsupported<T>(&self, what: &str, value: impl std::fmt::Display) -> Result<T, Refusal> {
        Err(format!("{what}={value} is not supported").into())
    }

    /// Every element of `x` where a truth value holds, else of `y`.
    pub fn chosen(&mut self, condition: ValueId, x: ValueId, y: ValueId) -> Result<ValueId, Refusal> {
        if x == y {
            return Ok(x);
        }
        let types = [x, y].map(|v| (self.dtype(v), self.shape(v)));
        if types[0] != types[1] || [x, y].iter().any(|&v| matches!(self.b.graph.value(v).def, Def::Sequence(_))) {
            let [a, b] = types;
            return Err(format!("what is chosen at run time is {}{:?} or {}{:?}: both must be alike", a.0, a.1, b.0, b.1).into());
        }
        let condition = self.b.reshape(condition, &[])?;
        Ok(self.b.map(&[condition, x, y], |f, i| f.select(i[0], i[1], i[2]))?)
    }

    /// A vector along dimension `axis` of `rank`, for broadcasting: `[n]` becomes `[n, 1, 1]`.
    pub fn along(&mut self, v: ValueId, axis: usize, rank: usize) -> Result<ValueId, Refusal> {
        let n = self.shape(v).iter().product();
        let mut shape = vec![1; rank - axis];
        shape[0] = n;
        Ok(self.b.reshape(v, &shape)?)
    }
}

fn at_run_time(i: usize, what: &str) -> Refusal {
    Refusal {
        message: format!("{what} (input {i}) is computed at run time"),
        help: Some(format!("shapes are fixed at build time: make {what} a constant, or bind the input it depends on")),
    }
}

/// Integers as extents.
pub fn unsigned(values: &[i64], what: &str) -> Result<Vec<usize>, Refusal> {
    values
        .iter()
        .map(|&n| usize::try_from(n))
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{what} {values:?} has a negative entry").into())
}
