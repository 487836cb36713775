//! Extents of inputs: numbers, symbols and sums of symbols, which may be known at run time only; and what the plan's ports tell of them.

use super::{Importer, Options};
use crate::diag::Diag;
use crate::graph::{Bound, Linear, PortBounds, ValueId, linear};
use crate::onnx::proto;
use std::collections::BTreeMap;
use wpk_plan::Count;

impl Importer<'_, '_> {
    /// The bounded dimensions of an input of the model.
    pub(super) fn bounds(&mut self, info: &proto::ValueInfo, options: &Options) -> Vec<Bound> {
        let shape = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
        if options.shapes.contains_key(&info.name) {
            return vec![];
        }
        let mut bounds = vec![];
        for (axis, name) in shape.into_iter().flat_map(|s| &s.dim).map(|d| d.dim_param.as_deref()).enumerate() {
            let Some((terms, plus)) = name.and_then(|name| symbols(options, name)) else { continue };
            let mut extent = Linear::constant(plus);
            for (name, by) in &terms {
                let most = options.dims.get(name).copied().unwrap_or(0);
                let size = match options.bounded.get(name) {
                    Some(&(_, least)) => Linear::of(*self.state.sizes.entry(name.clone()).or_insert_with(|| self.b.size(least, most))),
                    None => Linear::constant(most as i64),
                };
                extent = extent.add(&size, *by).unwrap_or_default();
            }
            if extent.known().is_none() {
                let most = self.b.most(&extent).max(0) as usize;
                bounds.push(Bound::first(axis, extent, most));
            }
        }
        bounds
    }

    /// Says what is known at run time only of inputs and outputs: sizes that are needed become inputs, and counts outputs.
    pub(super) fn borders(&mut self, options: &Options) {
        let sizes: Vec<(ValueId, (&String, u32))> =
            options.bounded.iter().filter_map(|(name, b)| Some((*self.state.sizes.get(name)?, (name, b.0)))).collect();
        let count = |count: ValueId, outputs: &[(String, ValueId)]| match sizes.iter().find(|s| s.0 == count) {
            Some(s) => Some(Count::Dim(s.1.1)),
            None => outputs.iter().position(|o| o.1 == count).map(|i| Count::Output(i as u32)),
        };
        let results = self.b.graph.outputs.len();
        for (name, id) in self.b.graph.outputs.clone() {
            for x in self.b.bounds_of(id) {
                if x.period < self.b.shape(id)[x.axis] {
                    let what = format!("output {name:?}: what exists of its dimension {} are not the first elements", x.axis);
                    self.state.diags.push(Diag::new(what).help("make what it is reshaped from the output"));
                }
                for (term, _) in x.end.terms() {
                    if count(term, &self.b.graph.outputs).is_none() {
                        self.b.graph.outputs.push((format!("{name} (count)"), term));
                    }
                }
            }
        }
        let live = self.b.graph.live();
        let ports = |list: &[(String, ValueId)]| {
            let bound = |x: Bound| {
                let terms = x.end.terms().map(|(term, by)| Some((count(term, &self.b.graph.outputs)?, by)));
                Some(wpk_plan::Bound { axis: x.axis, terms: terms.collect::<Option<_>>()?, plus: x.end.plus() })
            };
            list.iter().map(|(_, id)| self.b.bounds_of(*id).into_iter().filter_map(bound).collect()).collect()
        };
        let (inputs, outputs) = (ports(&self.b.graph.inputs), ports(&self.b.graph.outputs));
        let mut given = vec![];
        for (id, (name, dim)) in sizes.iter().filter(|s| live[s.0.0 as usize]) {
            given.push((self.b.graph.inputs.len(), *dim));
            self.b.declare(*id, &format!("{name} (size)"));
        }
        self.b.graph.bounds =
            PortBounds { inputs, outputs, sizes: given, results, masks: std::mem::take(&mut self.b.masks), bounded: self.b.bounded() };
    }
}

/// What a dimension's name says: a symbol, or a sum of symbols as exporters write them (`past + 1`), all of which have values.
fn symbols(options: &Options, name: &str) -> Option<(BTreeMap<String, i64>, i64)> {
    if options.dims.contains_key(name) {
        return Some(([(name.to_owned(), 1)].into(), 0));
    }
    linear::parse(name).filter(|(terms, _)| terms.keys().all(|t| options.dims.contains_key(t)))
}

/// The extent of a dimension of an input.
pub(super) fn extent(options: &Options, input: &str, d: usize, dim: &proto::Dim) -> Result<usize, Diag> {
    let fail = |what: String| Diag::new(format!("input {input:?}: dimension {d} {what}"));
    match (&dim.dim_value, &dim.dim_param) {
        (_, Some(name)) if !name.is_empty() => {
            let Some((terms, plus)) = symbols(options, name) else {
                let parts = linear::parse(name).map_or_else(|| vec![name.clone()], |(terms, _)| terms.into_keys().collect());
                let open = parts.into_iter().find(|p| !options.dims.contains_key(p)).unwrap_or_else(|| name.clone());
                return Err(fail(format!("is the symbol {name:?}"))
                    .help(format!("give its value: `dims = {{ {open}: [1] }}` or `.dim({open:?}, [1])`")));
            };
            let sum = terms.iter().try_fold(plus, |sum, (name, by)| sum.checked_add(by.checked_mul(*options.dims.get(name)? as i64)?));
            sum.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| fail(format!("is {name:?}, which is {sum:?}")))
        }
        (Some(n), _) => usize::try_from(*n).map_err(|_| fail(format!("is {n}"))),
        _ => Err(fail("is not stated".to_owned()).help(format!("give the extents with `.shape({input:?}, &[...])`"))),
    }
}
