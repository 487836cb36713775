//! Dimensions given as ranges: a request runs in the plan of the next larger size, with a count of what exists.
//!
//! That is exact where two things hold, and both are checked. No operation mixes elements with those that do not exist: that is
//! `graph/bounds.rs`. And nothing is computed from the most there can be instead of the request's size, which `graph/sizes.rs` follows: a model imported at two
//! sizes must differ in extents that are bounded alone, and in constants of which one is the beginning of the other.

use crate::diag::{Diag, Diags};
use crate::graph::{Def, Graph, Literal, Op};
use crate::import::{Options, import};
use crate::onnx::Source;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// A symbolic dimension: the sizes that plans are made for and the least size of a request, where sizes between them may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dim {
    pub name: String,
    pub sizes: Vec<usize>,
    pub least: Option<usize>,
}

impl Dim {
    /// Of listed sizes.
    pub fn listed(name: &str, sizes: impl IntoIterator<Item = usize>) -> Self {
        Self { name: name.to_owned(), sizes: sizes.into_iter().collect(), least: None }
    }

    /// Of a range: its end, and the powers of two within.
    pub fn range(name: &str, range: RangeInclusive<usize>) -> Self {
        let (least, most) = (*range.start(), *range.end());
        let powers = (0..usize::BITS).map(|i| 1 << i).take_while(|&n| n < most).filter(|&n| n >= least);
        let sizes = if range.is_empty() { vec![] } else { powers.chain([most]).collect() };
        Self { name: name.to_owned(), sizes, least: Some(least) }
    }
}

/// Dimensions whose requests may lie between sizes, and why others may not.
pub fn flexible(source: &Source, options: &Options, dims: &[Dim]) -> (Vec<Option<usize>>, Vec<String>) {
    let any = dims.iter().any(|d| d.least.is_some());
    let most = |d: &Dim| d.sizes.iter().copied().max().unwrap_or(0);
    let sizes: BTreeMap<String, usize> = dims.iter().map(|d| (d.name.clone(), most(d))).collect();
    let (mut least, mut reasons) = (vec![], vec![]);
    for (i, dim) in dims.iter().enumerate() {
        // Beside a range listed sizes are room for smaller requests too.
        let wanted = dim.least.or(any.then_some(1));
        let n = most(dim);
        let Some(own) = wanted.filter(|&l| l < n) else {
            least.push(wanted);
            continue;
        };
        let at = |n: usize| {
            let mut dims = sizes.clone();
            dims.insert(dim.name.clone(), n);
            let bounded = [(dim.name.clone(), (i as u32, own))].into();
            import(source, &Options { dims, bounded, ..options.clone() })
        };
        let other = if n > 2 { n - 1 } else { n + 1 };
        let difference = at(n).and_then(|a| at(other).map(|b| different(&a, &b)));
        let reason = difference.unwrap_or_else(|diags| Some(first(&diags)));
        least.push(if reason.is_none() { Some(own) } else { None });
        reasons.extend(reason.map(|r| format!("dimension {:?} runs only at {:?}: {r}", dim.name, dim.sizes)));
    }
    // Each by itself may be a range where all together are not.
    let mut last = dims.len();
    while let Some(i) = least[..last].iter().rposition(Option::is_some) {
        let bounded =
            dims.iter().zip(&least).enumerate().filter_map(|(i, (d, l))| Some((d.name.clone(), (i as u32, l.filter(|&l| l < most(d))?))));
        let Err(diags) = import(source, &Options { dims: sizes.clone(), bounded: bounded.collect(), ..options.clone() }) else { break };
        // What is wrong at the sizes alone is told when they are compiled.
        if import(source, &Options { dims: sizes.clone(), ..options.clone() }).is_err() {
            break;
        }
        reasons.push(format!("dimension {:?} runs only at {:?} beside the others: {}", dims[i].name, dims[i].sizes, first(&diags)));
        (least[i], last) = (None, i);
    }
    (least, reasons)
}

fn first(diags: &Diags) -> String {
    let note = |d: &Diag| d.notes.iter().find(|n| n.0 == "node").map_or(String::new(), |n| format!(" (node {})", n.1));
    diags.0.first().map_or(String::new(), |d| format!("{}{}", d.message, note(d)))
}

/// Where two graphs differ in more than extents.
fn different(a: &Graph, b: &Graph) -> Option<String> {
    if a.nodes.len() != b.nodes.len() || a.outputs.len() != b.outputs.len() {
        let node = a.nodes.iter().zip(&b.nodes).find(|(x, y)| x.op.name() != y.op.name()).map(|(x, _)| x.origin.to_string());
        return Some(format!("the model computes otherwise at another size{}", node.map_or(String::new(), |n| format!(", from {n} on"))));
    }
    for (x, y) in a.nodes.iter().zip(&b.nodes) {
        let literals = x.inputs.iter().zip(&y.inputs).all(|(&i, &j)| match (a.literal(i), b.literal(j)) {
            (Some(i), Some(j)) => begins(i, j),
            (None, None) => same(&a.value(i).def, &b.value(j).def),
            _ => false,
        });
        let shapes = (x.inputs.first().map(|&i| a.shape(i)).unwrap_or_default(), y.inputs.first().map(|&i| b.shape(i)).unwrap_or_default());
        let masks = a.bounds.masks.contains(&x.outputs[0]) && b.bounds.masks.contains(&y.outputs[0]);
        let open = |d: usize| a.bounds.bounded.get(&x.outputs[0]).is_some_and(|all| all.contains(&d));
        let grown = a.shape(x.outputs[0]).iter().zip(b.shape(y.outputs[0])).enumerate().all(|(d, (n, m))| n == m || masks || open(d));
        if !literals || !grown || !masks && !alike(&x.op, &y.op, shapes) {
            return Some(format!("{} computes with the size itself", x.origin));
        }
    }
    let outputs = a.outputs.iter().zip(&b.outputs).find(|((_, i), (_, j))| match (a.literal(*i), b.literal(*j)) {
        (Some(i), Some(j)) => !begins(i, j),
        _ => !same(&a.value(*i).def, &b.value(*j).def),
    });
    outputs.map(|((name, _), _)| format!("output {name:?} depends on the size itself"))
}

/// Whether two values are the same result of the same node, or the same input.
fn same(a: &Def, b: &Def) -> bool {
    match (a, b) {
        (Def::Input(i), Def::Input(j)) => i == j,
        (Def::Node(n, i), Def::Node(m, j)) => (n, i) == (m, j),
        _ => false,
    }
}

/// Whether operations differ in extents alone.
fn alike(a: &Op, b: &Op, (from, to): (&[usize], &[usize])) -> bool {
    let grown = |x: usize, y: usize, d: usize| x == y || from.get(d) == Some(&x) && to.get(d) == Some(&y);
    match (a, b) {
        (Op::Map { function: f, .. }, Op::Map { function: g, .. }) => f == g,
        (Op::Reshape(x) | Op::Expand(x), Op::Reshape(y) | Op::Expand(y)) => x.len() == y.len(),
        (Op::Slice { start, step, count }, Op::Slice { start: s, step: t, count: c }) => {
            start == s && step == t && (0..count.len()).all(|d| grown(count[d], c[d], d))
        }
        (Op::Window { out, .. }, Op::Window { out: o, .. }) => {
            let same = |op: &Op| match op {
                Op::Window { kind, dims, count_pad, indices, .. } => format!("{kind:?} {dims:?} {count_pad} {indices}"),
                _ => String::new(),
            };
            same(a) == same(b) && (0..out.len()).all(|d| grown(out[d], o[d], d))
        }
        _ => a == b,
    }
}

/// Whether of two constants each is the beginning of the other, along every dimension.
fn begins(a: &Literal, b: &Literal) -> bool {
    if a.dtype != b.dtype || a.shape.len() != b.shape.len() {
        return false;
    }
    if a.shape == b.shape {
        return a.bytes.as_ptr() == b.bytes.as_ptr() || a.bytes == b.bytes;
    }
    let size = a.dtype.bytes();
    let common: Vec<usize> = a.shape.iter().zip(&b.shape).map(|(x, y)| *x.min(y)).collect();
    let place = |shape: &[usize], mut i: usize| {
        let (mut at, mut stride) = (0, 1);
        for d in (0..shape.len()).rev() {
            at += i % common[d] * stride;
            i /= common[d];
            stride *= shape[d];
        }
        at * size
    };
    (0..common.iter().product()).all(|i| {
        let (x, y) = (place(&a.shape, i), place(&b.shape, i));
        a.bytes[x..x + size] == b.bytes[y..y + size]
    })
}
