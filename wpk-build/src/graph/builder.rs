//! Building graphs: every node is typed, simplified, folded and shared as it is added.

use super::bounds::{self, Bound};
use super::{Def, Graph, Linear, Literal, Node, Op, Value, ValueId, eval, fold, shape, sizes};
use crate::diag::Origin;
use crate::quantized::{self, Quantized};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, DType, ScalarFn, Unary};

/// Operations below which a node with constant inputs is evaluated at once.
const FOLD_LIMIT: u64 = 1 << 24;

/// Adds nodes to a graph.
#[derive(Default)]
pub struct Builder {
    /// The graph so far.
    pub graph: Graph,
    /// The origin of the nodes added next.
    pub origin: Origin,
    known: HashMap<String, Vec<ValueId>>,
    bounds: HashMap<ValueId, Vec<Bound>>,
    /// Constants at the most that counts can be, whose elements follow from them.
    pub(super) sized: HashMap<ValueId, Vec<Linear>>,
    /// The least and the most of every count.
    pub(super) counts: HashMap<ValueId, (i64, i64)>,
    /// Values whose functions may hold extents of bounded dimensions.
    pub masks: Vec<ValueId>,
}

/// What went wrong, for people; the caller knows the node.
pub type Outcome<T> = Result<T, String>;

impl Builder {
    fn value(&mut self, dtype: DType, shape: Vec<usize>, def: Def) -> ValueId {
        self.graph.values.push(Value { dtype, shape, def });
        ValueId(self.graph.values.len() as u32 - 1)
    }

    /// Declares a tensor that the caller gives.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> ValueId {
        let id = self.value(dtype, shape.to_vec(), Def::Input(self.graph.inputs.len()));
        self.graph.inputs.push((name.to_owned(), id));
        id
    }

    /// A scalar from `least` to `most` that the runtime gives, once [`Builder::declare`] has named it.
    pub fn size(&mut self, least: usize, most: usize) -> ValueId {
        let id = self.value(DType::I64, vec![], Def::Input(usize::MAX));
        self.count(id, least, most)
    }

    /// Says between what an integer lies that counts elements.
    pub fn count(&mut self, id: ValueId, least: usize, most: usize) -> ValueId {
        self.counts.insert(id, (least as i64, most as i64));
        id
    }

    /// Makes a value of [`Builder::size`] the last input.
    pub fn declare(&mut self, id: ValueId, name: &str) {
        self.graph.values[id.0 as usize].def = Def::Input(self.graph.inputs.len());
        self.graph.inputs.push((name.to_owned(), id));
    }

    /// A constant; equal small ones and those of the same memory are shared.
    pub fn constant(&mut self, literal: Literal) -> ValueId {
        let content = if literal.bytes.len() <= 256 {
            format!("{:?}", literal.bytes)
        } else {
            format!("@{:p}+{}", literal.bytes.as_ptr(), literal.bytes.len())
        };
        let key = format!("const {} {:?} {content}", literal.dtype, literal.shape);
        if let Some(known) = self.known.get(&key) {
            return known[0];
        }
        let id = self.value(literal.dtype, literal.shape.clone(), Def::Const(literal));
        self.known.insert(key, vec![id]);
        id
    }

    /// A list of values, for the operators on sequences.
    pub fn sequence(&mut self, values: Vec<ValueId>) -> ValueId {
        self.value(DType::Bool, vec![], Def::Sequence(values))
    }

    /// A constant of one element without dimensions.
    pub fn scalar(&mut self, x: f64, dtype: DType) -> ValueId {
        let literal = if dtype.is_float() { Literal::floats(dtype, &[], &[x]) } else { Literal::ints(dtype, &[], &[x as i64]) };
        self.constant(literal)
    }

    /// The value with more dimensions that are bounded: of a constant, which others may share, a constant of its own.
    pub fn bound(&mut self, v: ValueId, bounds: &[Bound]) -> ValueId {
        let mut all = self.bounds_of(v);
        all.extend(bounds.iter().filter(|x| !all.contains(x)).cloned().collect::<Vec<_>>());
        if all.len() == self.bounds_of(v).len() {
            return v;
        }
        let id = match self.graph.literal(v).cloned() {
            Some(literal) => self.apart(literal, &format!("bounded {v:?} {all:?}")),
            None => v,
        };
        self.bounds.insert(id, all);
        if let Some(forms) = self.sized.get(&v).cloned() {
            self.sized.insert(id, forms);
        }
        id
    }

    /// A constant that is shared under a key alone.
    pub(super) fn apart(&mut self, literal: Literal, key: &str) -> ValueId {
        if let Some(known) = self.known.get(key) {
            return known[0];
        }
        let id = self.value(literal.dtype, literal.shape.clone(), Def::Const(literal));
        self.known.insert(key.to_owned(), vec![id]);
        id
    }

    /// The bounded dimensions of a value.
    pub fn bounds_of(&self, v: ValueId) -> Vec<Bound> {
        self.bounds.get(&v).cloned().unwrap_or_default()
    }

    /// Whether any value has bounded dimensions.
    pub(super) fn is_bounded(&self) -> bool {
        !self.bounds.is_empty()
    }

    /// All values with bounded dimensions.
    pub fn bounded(&self) -> BTreeMap<ValueId, Vec<usize>> {
        self.bounds.iter().map(|(&v, all)| (v, all.iter().map(|x| x.axis).collect())).collect()
    }

    /// Adds a node and returns its results.
    pub fn add(&mut self, op: Op, inputs: &[ValueId]) -> Outcome<Vec<ValueId>> {
        if !self.sized.is_empty() && inputs.iter().any(|i| self.sized.contains_key(i)) {
            return sizes::add(self, op, inputs);
        }
        if !self.bounds.is_empty() && inputs.iter().any(|i| self.bounds.contains_key(i)) {
            return bounds::add(self, op, inputs);
        }
        self.plain(op, inputs)
    }

    /// Adds a node whose inputs exist as a whole.
    pub(super) fn plain(&mut self, op: Op, inputs: &[ValueId]) -> Outcome<Vec<ValueId>> {
        let types: Vec<_> = inputs.iter().map(|&i| (self.graph.dtype(i), self.graph.shape(i).to_vec())).collect();
        if !matches!(op, Op::Reshape(_)) && types.iter().any(|t| t.0 == DType::Text) {
            return Err("text is only supported where everything computed from it is constant".to_owned());
        }
        let results = shape::infer(&op, &types)?;
        if let Some(simpler) = fold::simplify(self, &op, inputs)? {
            return Ok(simpler);
        }
        let key = format!("{op:?} {inputs:?}");
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let constants: Option<Vec<&Literal>> = inputs.iter().map(|&i| self.graph.literal(i)).collect();
        // What only a function of the application computes is not known at build time.
        if let Some(constants) = constants.filter(|_| !matches!(op, Op::Custom(_))) {
            let quantized = quantized(&op, &constants, &results[0].1);
            let numbers =
                quantized.as_ref().filter(|_| matches!(op, Op::Map { .. }) && results[0].0 == DType::F32).and_then(|q| q.numbers());
            let bytes: usize =
                constants.iter().map(|c| c.bytes.len()).chain(results.iter().map(|(t, s)| t.bytes() * s.iter().product::<usize>())).sum();
            let folded = match numbers {
                Some(numbers) => Some(vec![numbers]),
                None => {
                    (eval::operations(&op, &types, &results) + (bytes as u64) < FOLD_LIMIT).then(|| eval::fold(&op, &constants, &results))
                }
            };
            if let Some(mut folded) = folded {
                folded[0].quantized = quantized;
                let ids: Vec<ValueId> = folded.into_iter().map(|literal| self.constant(literal)).collect();
                self.known.insert(key, ids.clone());
                return Ok(ids);
            }
        }
        let node = self.graph.nodes.len();
        let outputs: Vec<ValueId> = results.into_iter().enumerate().map(|(i, (t, s))| self.value(t, s, Def::Node(node, i))).collect();
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), origin: self.origin.clone() });
        self.known.insert(key, outputs.clone());
        Ok(outputs)
    }

    /// Adds a node and returns its first result.
    pub fn one(&mut self, op: Op, inputs: &[ValueId]) -> Outcome<ValueId> {
        Ok(self.add(op, inputs)?[0])
    }

    /// The extents of a value.
    pub fn shape(&self, id: ValueId) -> Vec<usize> {
        self.graph.shape(id).to_vec()
    }

    /// The element type of a value.
    pub fn dtype(&self, id: ValueId) -> DType {
        self.graph.dtype(id)
    }

    /// A scalar function over the broadcast shape of its inputs; `f` gets the inputs as values of the function.
    pub fn map(&mut self, inputs: &[ValueId], f: impl FnOnce(&mut ScalarFn, &[u16]) -> u16) -> Outcome<ValueId> {
        let mut function = ScalarFn::default();
        let names: Vec<u16> = inputs.iter().enumerate().map(|(i, &v)| function.input(i, self.dtype(v))).collect();
        let result = f(&mut function, &names);
        function.outputs.push(result);
        let shapes: Vec<&[usize]> = inputs.iter().map(|&v| self.graph.shape(v)).collect();
        let shape = shape::broadcast(&shapes)?;
        self.one(Op::Map { function, shape }, inputs)
    }

    /// A function of one value at every point.
    pub fn unary(&mut self, f: Unary, x: ValueId) -> Outcome<ValueId> {
        self.map(&[x], |s, i| s.unary(f, i[0]))
    }

    /// A function of two values of one type, broadcast.
    pub fn binary(&mut self, f: Binary, x: ValueId, y: ValueId) -> Outcome<ValueId> {
        let (t, u) = (self.dtype(x), self.dtype(y));
        if t != u {
            return Err(format!("operands are {t} and {u}"));
        }
        self.map(&[x, y], |s, i| s.binary(f, i[0], i[1]))
    }

    /// Conversion of every element.
    pub fn cast(&mut self, x: ValueId, to: DType) -> Outcome<ValueId> {
        if self.dtype(x) == to { Ok(x) } else { self.map(&[x], |s, i| s.cast(i[0], to)) }
    }

    /// Other extents for the same elements.
    pub fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Outcome<ValueId> {
        self.one(Op::Reshape(shape.to_vec()), &[x])
    }

    /// Dimensions in another order.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Outcome<ValueId> {
        self.one(Op::Transpose(perm.to_vec()), &[x])
    }

    /// Dimension `axis` moved to the end, with the order that undoes it.
    pub fn to_last(&mut self, x: ValueId, axis: usize) -> Outcome<(ValueId, Vec<usize>)> {
        let rank = self.shape(x).len();
        let perm: Vec<usize> = (0..rank).filter(|&d| d != axis).chain([axis]).collect();
        let back = invert(&perm);
        Ok((self.transpose(x, &perm)?, back))
    }

    /// Reduction over dimensions, kept at extent 1.
    pub fn reduce(&mut self, kind: ReduceKind, x: ValueId, axes: &[usize]) -> Outcome<ValueId> {
        let axes = (0..self.shape(x).len()).map(|d| axes.contains(&d)).collect();
        self.one(Op::Reduce { kind, axes }, &[x])
    }

    /// A contiguous range of one dimension.
    pub fn range(&mut self, x: ValueId, axis: usize, start: usize, count: usize) -> Outcome<ValueId> {
        let mut counts = self.shape(x);
        let mut starts = vec![0; counts.len()];
        let step = vec![1; counts.len()];
        starts[axis] = start;
        counts[axis] = count;
        self.one(Op::Slice { start: starts, step, count: counts }, &[x])
    }
}

/// The bytes that a folded constant is made of: those of a dequantization, also after a transposition.
fn quantized(op: &Op, constants: &[&Literal], shape: &[usize]) -> Option<Arc<Quantized>> {
    match op {
        Op::Map { function, .. } => quantized::of_constants(function, constants, shape),
        Op::Transpose(perm) => {
            let known = constants[0].quantized.as_ref()?;
            let turned = |l: &Literal| {
                let to: Vec<usize> = perm.iter().map(|&p| l.shape[p]).collect();
                eval::fold(op, &[l], &[(l.dtype, to)]).swap_remove(0)
            };
            let scale = match &known.scale {
                Some(s) if s.len() > 1 && s.shape.len() == perm.len() => Some(turned(s)),
                Some(s) if s.len() > 1 => return None,
                other => other.clone(),
            };
            Some(Arc::new(Quantized { levels: turned(&known.levels), scale }))
        }
        _ => None,
    }
}

/// The permutation that undoes another.
pub fn invert(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
    inverse
}
