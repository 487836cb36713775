//! Tensors of which a part exists: their actual extents, and their elements out of and into tensors with room for more.

use crate::{Count, DType, Plan, Port, Role};

impl Plan {
    /// What is wrong with bounds and roles of ports, for a program of so many symbolic dimensions.
    pub(crate) fn port_faults(&self, dims: usize) -> Vec<String> {
        let counts = |p: &Port| p.dtype == DType::I64 && p.shape.is_empty();
        let known = |count: Count| match count {
            Count::Dim(d) => (d as usize) < dims,
            Count::Output(i) => self.outputs.get(i as usize).is_some_and(counts),
        };
        let mut faults = vec![];
        for port in self.inputs.iter().chain(&self.outputs) {
            if port.bounds.iter().any(|b| b.axis >= port.shape.len() || b.terms.iter().any(|t| !known(t.0))) {
                faults.push(format!("{} has a bound that nothing counts", port.name));
            }
        }
        let stray_input = |p: &Port| !matches!(p.role, Role::Size(d) if (d as usize) < dims && counts(p));
        let stray_output = |p: &Port| p.role != Role::Count || !counts(p);
        let inputs = self.inputs[self.given().len()..].iter().filter(|p| stray_input(p));
        let outputs = self.outputs[self.results().len()..].iter().filter(|p| stray_output(p));
        faults.extend(inputs.chain(outputs).map(|p| format!("{} is neither the model's nor a number of the runtime's", p.name)));
        faults
    }

    /// The outputs as far as they exist, without the counts; `sizes` are those of the request, by symbolic dimension.
    pub fn existing(&self, results: &[Vec<u8>], sizes: &[usize]) -> Vec<(Vec<usize>, Vec<u8>)> {
        let counted = |i: u32| results.get(i as usize).and_then(|b| b.as_slice().try_into().ok()).map_or(0, i64::from_ne_bytes);
        let count = |c: Count| match c {
            Count::Dim(d) => sizes.get(d as usize).copied().unwrap_or(usize::MAX),
            Count::Output(i) => usize::try_from(counted(i)).unwrap_or(0),
        };
        let all = self.results().iter().zip(results);
        all.map(|(port, bytes)| {
            let shape = port.existing(count);
            let part = port.part(bytes, &shape);
            (shape, part)
        })
        .collect()
    }
}

impl Port {
    /// The extents of what exists, by the counts.
    pub fn existing(&self, count: impl Fn(Count) -> usize) -> Vec<usize> {
        let mut shape = self.shape.clone();
        for b in &self.bounds {
            shape[b.axis] = shape[b.axis].min(b.end(&count));
        }
        shape
    }

    /// The elements that exist of a tensor with room for more.
    pub fn part(&self, bytes: &[u8], shape: &[usize]) -> Vec<u8> {
        let (size, row) = (self.dtype.bytes(), shape.last().copied().unwrap_or(1));
        let mut out = vec![0; shape.iter().product::<usize>() * size];
        rows(shape, &self.shape, |to, from| out[to * size..(to + row) * size].copy_from_slice(&bytes[from * size..(from + row) * size]));
        out
    }

    /// A tensor with room for more than there is, zeros behind it.
    pub fn whole(&self, bytes: &[u8], shape: &[usize]) -> Vec<u8> {
        let (size, row) = (self.dtype.bytes(), shape.last().copied().unwrap_or(1));
        let mut out = vec![0; self.bytes()];
        rows(shape, &self.shape, |from, to| out[to * size..(to + row) * size].copy_from_slice(&bytes[from * size..(from + row) * size]));
        out
    }
}

/// Visits the rows that a smaller tensor shares with a larger one: where they begin in both, in elements.
fn rows(small: &[usize], large: &[usize], mut visit: impl FnMut(usize, usize)) {
    let Some((&row, outer)) = small.split_last() else { return visit(0, 0) };
    if small.contains(&0) {
        return;
    }
    for i in 0..outer.iter().product::<usize>() {
        let (mut rest, mut at, mut stride) = (i, 0, large[outer.len()]);
        for d in (0..outer.len()).rev() {
            at += rest % outer[d] * stride;
            rest /= outer[d];
            stride *= large[d];
        }
        visit(i * row, at);
    }
}
