//! What is computed from the extents of bounded dimensions. Such a constant has the elements that it has where every count is the most it can be, which extents
//! are, and tells how they follow from counts. Whatever takes it as numbers gets those of the request instead.

use super::bounds::{self, mixed};
use super::{Builder, Linear, Literal, Op, Outcome, ValueId, eval, shape};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, DType, Expr, ScalarFn, Unary};

/// Elements of a constant that are followed.
const MOST: usize = 1 << 16;

/// Adds an operation some of whose inputs follow from counts.
pub(super) fn add(b: &mut Builder, op: Op, inputs: &[ValueId]) -> Outcome<Vec<ValueId>> {
    if inputs.iter().all(|&i| b.graph.literal(i).is_some()) {
        let types: Vec<_> = inputs.iter().map(|&i| (b.dtype(i), b.shape(i))).collect();
        if let [(dtype, shape)] = &shape::infer(&op, &types)?[..]
            && let Some(forms) = followed(b, &op, inputs, shape)
            && let Some(bounds) = bounds::kept(b, &op, inputs)
        {
            let constant = b.sized(*dtype, shape, forms);
            return Ok(vec![b.bound(constant, &bounds)]);
        }
    }
    let actual = inputs.iter().map(|&i| b.actual(i)).collect::<Outcome<Vec<_>>>()?;
    b.add(op, &actual)
}

impl Builder {
    /// A constant whose elements do not follow from counts, nor its extents.
    pub fn fixed(&self, v: ValueId) -> Option<&Literal> {
        self.graph.literal(v).filter(|_| !self.sized.contains_key(&v) && self.bounds_of(v).is_empty())
    }

    /// The integers of a constant whose extents are known, as they follow from counts.
    pub fn forms(&self, v: ValueId) -> Option<Vec<Linear>> {
        self.elements(v).filter(|_| self.bounds_of(v).is_empty())
    }

    /// The integers of a constant, as they follow from counts.
    pub fn elements(&self, v: ValueId) -> Option<Vec<Linear>> {
        let literal = self.graph.literal(v).filter(|l| !l.dtype.is_float() && l.dtype != DType::Text && l.len() <= MOST)?;
        let known = || literal.to_ints().into_iter().map(Linear::constant).collect();
        Some(self.sized.get(&v).cloned().unwrap_or_else(known))
    }

    /// A constant of integers that follow from counts.
    pub fn sized(&mut self, dtype: DType, shape: &[usize], forms: Vec<Linear>) -> ValueId {
        let most: Vec<i64> = forms.iter().map(|f| self.most(f)).collect();
        let literal = Literal::ints(dtype, shape, &most);
        if forms.iter().all(|f| f.known().is_some()) {
            return self.constant(literal);
        }
        let id = self.apart(literal, &format!("sized {dtype} {shape:?} {forms:?}"));
        self.sized.insert(id, forms);
        id
    }

    /// The value as it is at run time.
    pub fn actual(&mut self, v: ValueId) -> Outcome<ValueId> {
        let Some(forms) = self.sized.get(&v).cloned() else { return Ok(v) };
        let (dtype, shape) = (self.dtype(v), self.shape(v));
        let mut counts: Vec<ValueId> = forms.iter().flat_map(Linear::terms).map(|t| t.0).collect();
        counts.sort_unstable();
        counts.dedup();
        let column = |f: &dyn Fn(&Linear) -> i64| Literal::ints(DType::I64, &shape, &forms.iter().map(f).collect::<Vec<_>>());
        let mut inputs = vec![self.constant(column(&Linear::plus))];
        for &count in &counts {
            let by = column(&|f: &Linear| f.terms().find(|t| t.0 == count).map_or(0, |t| t.1));
            inputs.extend([self.constant(by), count]);
        }
        let value = self.map(&inputs, |f, i| {
            let sum = i[1..].chunks(2).fold(i[0], |sum, pair| {
                let part = f.binary(Binary::Mul, pair[0], pair[1]);
                f.binary(Binary::Add, sum, part)
            });
            f.cast(sum, dtype)
        })?;
        let bounds = self.bounds_of(v);
        Ok(self.bound(value, &bounds))
    }

    /// The least and the most that a number can be.
    pub fn span(&self, n: &Linear) -> (i64, i64) {
        n.span(|count| self.counts.get(&count).copied().unwrap_or((0, i64::MAX)))
    }

    /// The number where every count is the most it can be.
    pub fn most(&self, n: &Linear) -> i64 {
        n.span(|count| self.counts.get(&count).map_or((0, 0), |c| (c.1, c.1))).1
    }

    /// The larger of two numbers, where it is the same one whatever the counts.
    pub fn larger(&self, x: &Linear, y: &Linear) -> Option<Linear> {
        match self.span(&x.add(y, -1)?) {
            (0.., _) => Some(x.clone()),
            (_, ..=0) => Some(y.clone()),
            _ => None,
        }
    }

    /// The smaller of two numbers, where it is the same one whatever the counts.
    pub fn smaller(&self, x: &Linear, y: &Linear) -> Option<Linear> {
        match self.span(&x.add(y, -1)?) {
            (_, ..=0) => Some(x.clone()),
            (0.., _) => Some(y.clone()),
            _ => None,
        }
    }

    /// How many elements of a dimension exist.
    pub fn extent(&self, v: ValueId, axis: usize) -> Outcome<Linear> {
        let (extent, bounds) = (self.shape(v)[axis], self.bounds_of(v));
        let own: Vec<_> = bounds.iter().filter(|x| x.axis == axis).collect();
        match own[..] {
            [] => Ok(Linear::constant(extent as i64)),
            [x] => x.end.times((extent / x.period.max(1)) as i64).ok_or_else(|| "extents are too large".to_owned()),
            [x, ..] => Err(mixed("its number", x)),
        }
    }
}

/// The elements of a result, where they follow from counts.
fn followed(b: &Builder, op: &Op, inputs: &[ValueId], shape: &[usize]) -> Option<Vec<Linear>> {
    let forms: Vec<Vec<Linear>> = inputs.iter().map(|&i| b.elements(i)).collect::<Option<_>>()?;
    if shape.iter().product::<usize>() > MOST {
        return None;
    }
    match op {
        Op::Map { function, .. } => {
            let shapes: Vec<Vec<usize>> = inputs.iter().map(|&i| b.shape(i)).collect();
            let all = 0..shape.iter().product();
            all.map(|i| mapped(b, function, &forms, &shapes, shape, i)).collect()
        }
        Op::Reduce { kind, axes } => {
            let from = b.shape(inputs[0]);
            let mut out: Vec<Option<Linear>> = vec![None; shape.iter().product()];
            for (i, form) in forms[0].iter().enumerate() {
                let at = index(&from, i);
                let to = at.iter().zip(axes).zip(shape).fold(0, |to, ((&at, &gone), &n)| to * n + if gone { 0 } else { at });
                out[to] = Some(match &out[to] {
                    None => form.clone(),
                    Some(sum) => match kind {
                        ReduceKind::Sum => sum.add(form, 1)?,
                        ReduceKind::Prod => product(sum, form)?,
                        ReduceKind::Max => b.larger(sum, form)?,
                        ReduceKind::Min => b.smaller(sum, form)?,
                        _ => return None,
                    },
                });
            }
            out.into_iter().collect()
        }
        // What only moves elements moves their numbers.
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice { .. } | Op::Expand(_) | Op::Concat(_) => moved(b, op, inputs, inputs, &forms, shape),
        Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => {
            b.fixed(inputs[1])?;
            moved(b, op, inputs, &inputs[..1], &forms, shape)
        }
        _ => None,
    }
}

/// Applies an operation to the numbers of elements.
fn moved(b: &Builder, op: &Op, inputs: &[ValueId], from: &[ValueId], forms: &[Vec<Linear>], shape: &[usize]) -> Option<Vec<Linear>> {
    let mut first = 0;
    let mut numbers = vec![];
    for (&v, forms) in from.iter().zip(forms) {
        let own: Vec<i64> = (first..first + forms.len() as i64).collect();
        first += own.len() as i64;
        numbers.push(Literal::ints(DType::I64, &b.shape(v), &own));
    }
    let all = forms[..from.len()].concat();
    let literals: Option<Vec<&Literal>> = inputs.iter().enumerate().map(|(i, &v)| numbers.get(i).or_else(|| b.graph.literal(v))).collect();
    let found = eval::fold(op, &literals?, &[(DType::I64, shape.to_vec())]).swap_remove(0);
    found.to_ints().into_iter().map(|i| all.get(i as usize).cloned()).collect()
}

/// The coordinates of an element.
fn index(shape: &[usize], mut i: usize) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for d in (0..shape.len()).rev() {
        at[d] = i % shape[d].max(1);
        i /= shape[d].max(1);
    }
    at
}

/// A scalar function at one element.
fn mapped(b: &Builder, f: &ScalarFn, forms: &[Vec<Linear>], shapes: &[Vec<usize>], to: &[usize], element: usize) -> Option<Linear> {
    let at = index(to, element);
    let mut values: Vec<Linear> = vec![];
    for inst in &f.insts {
        if inst.dtype.is_float() {
            return None;
        }
        let of = |x: u16| &values[usize::from(x)];
        let known = |x: u16| of(x).known();
        let truth = |t: bool| Linear::constant(i64::from(t));
        values.push(match inst.expr {
            Expr::Input(i) => {
                let (own, skipped) = (&shapes[usize::from(i)], to.len() - shapes[usize::from(i)].len());
                let place = own.iter().enumerate().fold(0, |p, (d, &n)| p * n + if n == 1 { 0 } else { at[d + skipped] });
                forms[usize::from(i)][place].clone()
            }
            Expr::Const(bits) => Linear::constant(bits as i64),
            Expr::Index(d) => Linear::constant(at[usize::from(d)] as i64),
            Expr::Unary(Unary::Neg, x) => of(x).times(-1)?,
            Expr::Unary(Unary::Abs, x) if b.span(of(x)).0 >= 0 => of(x).clone(),
            Expr::Unary(Unary::Not, x) => truth(known(x)? == 0),
            Expr::Binary(Binary::Add, x, y) => of(x).add(of(y), 1)?,
            Expr::Binary(Binary::Sub, x, y) => of(x).add(of(y), -1)?,
            Expr::Binary(Binary::Mul, x, y) => product(of(x), of(y))?,
            Expr::Binary(Binary::Div, x, y) => of(x).divided(known(y)?)?,
            Expr::Binary(Binary::Max, x, y) => b.larger(of(x), of(y))?,
            Expr::Binary(Binary::Min, x, y) => b.smaller(of(x), of(y))?,
            Expr::Binary(Binary::And, x, y) if inst.dtype == DType::Bool => truth(known(x)? != 0 && known(y)? != 0),
            Expr::Binary(Binary::Or, x, y) if inst.dtype == DType::Bool => truth(known(x)? != 0 || known(y)? != 0),
            Expr::Binary(f @ (Binary::Lt | Binary::Le | Binary::Eq), x, y) => truth(compared(b, f, of(x), of(y))?),
            Expr::Select(c, x, y) => of(if known(c)? != 0 { x } else { y }).clone(),
            // Extents are in the range of any type that models compute them in.
            Expr::Cast(x) if !matches!(f.dtype(x), DType::Bool) || known(x).is_some() => match inst.dtype {
                DType::I64 | DType::I32 => of(x).clone(),
                DType::Bool => truth(!compared(b, Binary::Eq, of(x), &Linear::default())?),
                _ => Linear::constant(known(x).filter(|n| (0..128).contains(n))?),
            },
            _ => return None,
        });
    }
    Some(values[usize::from(f.outputs[0])].clone())
}

fn product(x: &Linear, y: &Linear) -> Option<Linear> {
    match (x.known(), y.known()) {
        (_, Some(by)) => x.times(by),
        (Some(by), _) => y.times(by),
        _ => None,
    }
}

/// How two numbers compare, where they do so whatever the counts.
fn compared(b: &Builder, f: Binary, x: &Linear, y: &Linear) -> Option<bool> {
    let (low, high) = b.span(&x.add(y, -1)?);
    let decided = |yes: bool, no: bool| if yes { Some(true) } else { no.then_some(false) };
    match f {
        Binary::Lt => decided(high < 0, low >= 0),
        Binary::Le => decided(high <= 0, low > 0),
        Binary::Eq => decided((low, high) == (0, 0), low > 0 || high < 0),
        _ => None,
    }
}
