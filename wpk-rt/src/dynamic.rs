//! Tensors whose extents are known when a model runs, and the calls of models with ranges of sizes.

use crate::{Element, Error, Model, Shape, Tensor};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use wpk_plan::{Bound, Count, Plan, Port, Program, Role};

/// A dense row-major tensor of `T` whose extents are known when the program runs.
#[derive(Clone, PartialEq)]
pub struct Dynamic<T: Element> {
    shape: Vec<usize>,
    data: Vec<T>,
}

impl<T: Element> Dynamic<T> {
    /// Of row-major elements.
    ///
    /// # Errors
    /// Where there are not exactly as many as the shape has.
    pub fn new(shape: &[usize], data: Vec<T>) -> Result<Self, Error> {
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(data.len()) {
            return Err(mismatch("tensor", format!("as many elements as {shape:?} has"), data.len()));
        }
        Ok(Self { shape: shape.to_vec(), data })
    }

    /// Every element by its row-major number.
    pub fn from_fn(shape: &[usize], f: impl FnMut(usize) -> T) -> Self {
        Self { shape: shape.to_vec(), data: (0..shape.iter().product()).map(f).collect() }
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in row-major order.
    pub fn as_slice(&self) -> &[T] {
        &self.data
    }

    /// The elements in row-major order, to write.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The elements in row-major order.
    pub fn into_vec(self) -> Vec<T> {
        self.data
    }

    fn zeros(shape: Vec<usize>) -> Self {
        Self { data: vec![T::default(); shape.iter().product()], shape }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: every element type is plain bytes.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast(), size_of_val(self.data.as_slice())) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: kernels write valid elements of the type; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_mut_ptr().cast(), size_of_val(self.data.as_slice())) }
    }
}

impl<T: Element, S: Shape> From<&Tensor<T, S>> for Dynamic<T> {
    fn from(tensor: &Tensor<T, S>) -> Self {
        Self { shape: S::DIMS.to_vec(), data: tensor.as_slice().to_vec() }
    }
}

impl<T: Element> fmt::Debug for Dynamic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.data[..self.data.len().min(8)];
        write!(f, "{}{:?} {shown:?}{}", T::DTYPE, self.shape, if self.data.len() > 8 { " ..." } else { "" })
    }
}

/// A result with as many elements as the data say, at most those of `S`.
#[derive(Clone, PartialEq)]
pub struct Bounded<T: Element, S: Shape> {
    found: Dynamic<T>,
    most: PhantomData<S>,
}

impl<T: Element, S: Shape> Bounded<T, S> {
    /// The extents there can be at most, outermost first.
    pub const MAX: &'static [usize] = S::DIMS;

    /// What there is, with the extents it has.
    pub fn into_inner(self) -> Dynamic<T> {
        self.found
    }
}

impl<T: Element, S: Shape> Deref for Bounded<T, S> {
    type Target = Dynamic<T>;

    fn deref(&self) -> &Dynamic<T> {
        &self.found
    }
}

impl<T: Element, S: Shape> fmt::Debug for Bounded<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of at most {:?}", self.found, S::DIMS)
    }
}

/// One tensor of a dynamic call: its extents and its bytes.
pub type Given<'a> = (&'a [usize], &'a [u8]);

/// One result of a dynamic call: its extents and its bytes.
pub type Found = (Vec<usize>, Vec<u8>);

impl Model {
    #[doc(hidden)]
    pub fn given<T: Element>(tensor: &Dynamic<T>) -> Given<'_> {
        (&tensor.shape, tensor.bytes())
    }

    /// An output of a dynamic call as a tensor.
    #[doc(hidden)]
    pub fn found<T: Element>((shape, bytes): Found) -> Dynamic<T> {
        let mut tensor = Dynamic::zeros(shape);
        tensor.bytes_mut().copy_from_slice(&bytes);
        tensor
    }

    /// An output of which only a part exists.
    #[doc(hidden)]
    pub fn bounded<T: Element, S: Shape>(
        &self,
        bucket: usize,
        output: usize,
        tensor: &Tensor<T, S>,
        counts: &[(usize, i64)],
    ) -> Bounded<T, S> {
        let port = &self.program().buckets[bucket].1.outputs[output];
        let count = |c: Count| match c {
            Count::Output(i) => counts.iter().find(|c| c.0 == i as usize).map_or(0, |c| c.1 as usize),
            Count::Dim(_) => usize::MAX,
        };
        let shape = port.existing(count);
        let part = port.part(tensor.as_bytes(), &shape);
        Bounded { found: Self::found((shape, part)), most: PhantomData }
    }

    /// Runs a request in the plan of the next larger sizes; the outputs have the extents that the request's sizes give them.
    ///
    /// # Errors
    /// Where extents do not fit the model, or a size is none that it was compiled for.
    pub fn run_dynamic(&self, inputs: &[Given<'_>]) -> Result<Vec<Found>, Error> {
        let sizes = self.sizes(inputs)?;
        let program = self.program();
        let fits = |own: &[usize]| own.iter().zip(&sizes).zip(&program.dims).all(|((&n, &s), d)| n == s || n > s && d.least.is_some());
        let all = program.buckets.iter().enumerate().filter(|(_, b)| fits(&b.0));
        let Some((bucket, (_, plan))) = all.min_by_key(|(_, b)| b.0.iter().product::<usize>()) else {
            let known: Vec<&[usize]> = program.buckets.iter().map(|b| b.0.as_slice()).collect();
            let names: Vec<&str> = program.dims.iter().map(|d| d.name.as_str()).collect();
            return Err(mismatch(&format!("sizes of {names:?}"), format!("at most one of {known:?}"), format!("{sizes:?}")));
        };
        let given = plan.given().iter().zip(inputs);
        let mut padded: Vec<Vec<u8>> = given.map(|(port, (shape, bytes))| port.whole(bytes, shape)).collect();
        for port in &plan.inputs[plan.given().len()..] {
            let size = if let Role::Size(d) = port.role { sizes.get(d as usize).copied().unwrap_or(0) } else { 0 };
            padded.push((size as i64).to_ne_bytes().to_vec());
        }
        let mut results: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0; p.bytes()]).collect();
        let sources: Vec<&[u8]> = padded.iter().map(Vec::as_slice).collect();
        self.run(bucket, &sources, &mut results.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>())?;
        Ok(plan.existing(&results, &sizes))
    }

    /// The sizes that a request has, by dimension.
    fn sizes(&self, inputs: &[Given<'_>]) -> Result<Vec<usize>, Error> {
        let program = self.program();
        // The largest plan says where every dimension is; plans of the least size have none.
        let Some((most, plan)) = program.buckets.iter().max_by_key(|b| b.0.iter().product::<usize>()) else {
            return Err(Error::Invalid("the program has no plan".to_owned()));
        };
        let ports = plan.given();
        if ports.len() != inputs.len() {
            return Err(mismatch("inputs", ports.len(), inputs.len()));
        }
        let mut bounded: Vec<(&Port, &Bound, usize)> = vec![];
        for (port, (shape, bytes)) in ports.iter().zip(inputs) {
            let what = || format!("input {:?}", port.name);
            if shape.len() != port.shape.len() || shape.iter().product::<usize>() * port.dtype.bytes() != bytes.len() {
                return Err(mismatch(&what(), format!("{:?}", port.shape), format!("{shape:?} of {} bytes", bytes.len())));
            }
            for (axis, (&n, &most)) in shape.iter().zip(&port.shape).enumerate() {
                match port.bounds.iter().find(|b| b.axis == axis) {
                    Some(bound) => bounded.push((port, bound, n)),
                    None if n != most && !self.varies(port, axis) => {
                        return Err(mismatch(&format!("{}, axis {axis}", what()), most, n));
                    }
                    None => {}
                }
            }
        }
        let mut sizes: Vec<Option<usize>> = vec![None; most.len()];
        // An extent tells the size of a dimension where it knows the others in it.
        while let Some((d, size, (port, bound, n))) = bounded.iter().find_map(|&x| solved(x.1, x.2, &sizes).map(|(d, size)| (d, size, x))) {
            let (least, most) = (program.dims[d].least.unwrap_or(0), most[d]);
            let Some(size) = size.filter(|s| (least..=most).contains(s)) else {
                let what = format!("input {:?}, dimension {:?}", port.name, named(program, bound));
                let at = |size: usize| bound.end(|c| if c == Count::Dim(d as u32) { size } else { known(c, &sizes).unwrap_or(0) });
                return Err(mismatch(&what, format!("{} to {}", at(least), at(most)), n));
            };
            sizes[d] = Some(size);
        }
        for (port, bound, n) in bounded {
            let expected = bound.end(|c| known(c, &sizes).unwrap_or(0));
            if expected != n {
                return Err(mismatch(&format!("input {:?}, dimension {:?}", port.name, named(program, bound)), expected, n));
            }
        }
        self.listed(&mut sizes, inputs);
        Ok(sizes.into_iter().zip(most).map(|(n, &most)| n.unwrap_or(most)).collect())
    }

    /// Whether plans differ in an extent of an input.
    fn varies(&self, port: &Port, axis: usize) -> bool {
        let all = self.program().buckets.iter().flat_map(|b| b.1.inputs.iter().filter(|p| p.name == port.name));
        all.into_iter().any(|p| p.shape[axis] != port.shape[axis])
    }

    /// The sizes of dimensions that only run at those of plans, from the plan whose inputs have the request's extents there.
    fn listed(&self, sizes: &mut [Option<usize>], inputs: &[Given<'_>]) {
        let program = self.program();
        for (d, size) in sizes.iter_mut().enumerate().filter(|s| s.1.is_none()) {
            let matches = |plan: &Plan| {
                let ports = plan.given().iter().zip(inputs);
                ports
                    .into_iter()
                    .all(|(p, (shape, _))| (0..shape.len()).all(|a| p.bounds.iter().any(|b| b.axis == a) || p.shape[a] == shape[a]))
            };
            *size = program.buckets.iter().find(|(_, plan)| matches(plan)).map(|(own, _)| own[d]);
        }
    }
}

fn known(count: Count, sizes: &[Option<usize>]) -> Option<usize> {
    if let Count::Dim(d) = count { sizes.get(d as usize).copied().flatten() } else { None }
}

/// The only dimension of an extent whose size is not known yet, and that size where there is one.
fn solved(bound: &Bound, extent: usize, sizes: &[Option<usize>]) -> Option<(usize, Option<usize>)> {
    let mut open = bound.terms.iter().filter(|t| known(t.0, sizes).is_none());
    let (&(Count::Dim(d), by), None) = (open.next()?, open.next()) else { return None };
    let others = bound.terms.iter().filter_map(|&(c, by)| Some(known(c, sizes)? as i128 * i128::from(by)));
    let rest = extent as i128 - i128::from(bound.plus) - others.sum::<i128>();
    let whole = (by != 0 && rest % i128::from(by) == 0).then(|| rest / i128::from(by));
    Some((d as usize, whole.and_then(|n| usize::try_from(n).ok())))
}

/// What a dimension is called that has such an extent.
fn named(program: &Program, bound: &Bound) -> String {
    let term = |&(count, by): &(Count, i64)| {
        let name = match count {
            Count::Dim(d) => program.dims.get(d as usize).map_or("?", |d| d.name.as_str()),
            Count::Output(_) => "?",
        };
        if by == 1 { name.to_owned() } else { format!("{by}*{name}") }
    };
    let mut parts: Vec<String> = bound.terms.iter().map(term).collect();
    parts.extend((bound.plus != 0).then(|| bound.plus.to_string()));
    parts.join(" + ")
}

fn mismatch(what: &str, expected: impl ToString, found: impl ToString) -> Error {
    Error::Mismatch { what: what.to_owned(), expected: expected.to_string(), found: found.to_string() }
}
