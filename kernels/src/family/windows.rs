//! Pooling that is no reduction of its elements: maxima with their positions, and means that count padding up to a bound. A thread goes
//! through the window of each result.

use super::affine::{Linear, split};
use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Kernel, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::{Window, WindowKind};
use wpk_plan::{Binary, DType, ScalarFn, Unary, View};

schedule! {
    /// How windows are gone through.
    Windows(Window => Facts) = "windows" {
        /// Threads of a block.
        threads: [64, 128, 256],
    }
}

/// What a schedule of such a problem depends on.
pub struct Facts {
    results: usize,
    taps: usize,
    small: bool,
    arch: Arch,
}

impl Facts {
    fn of(w: &Window, arch: &Arch) -> Self {
        let results = w.output.view.shape.iter().product();
        let views = [&w.input.view, &w.output.view];
        let small = (1..1 << 30).contains(&results) && views.iter().all(|v| v.span().is_some_and(|s| s.1 < 1 << 30));
        Self { results, taps: w.dims.iter().map(|d| d.size).product(), small, arch: *arch }
    }
}

impl Windows {
    fn fits(&self, f: &Facts) -> bool {
        f.small
    }

    fn estimate(&self, f: &Facts) -> f64 {
        let waves = (f.results as f64 / f64::from(f.arch.sms) / f64::from(f.arch.threads)).ceil();
        let uneven = 1.0 + f64::from(self.threads.abs_diff(128)) / 1e4;
        1500.0 + 60.0 * f.taps as f64 * waves * uneven
    }
}

/// The kernel; its parameters are the input, the output, and the positions where they are wanted.
///
/// # Errors
/// Where the schedule does not fit, or a type is not generated.
pub fn windows(w: &Window, s: &Windows, arch: &Arch) -> Result<Kernel, Unsupported> {
    let facts = Facts::of(w, arch);
    if !s.legal(&facts) || w.kind != WindowKind::Max && !w.input.dtype.is_float() {
        return Err(Unsupported(format!("{s} does not fit windows of {}", w.input.dtype)));
    }
    let mut k = Writer::for_arch(arch);
    let thread = k.thread(s.threads);
    let inside = k.below(thread, facts.results as i64);
    let mut result = Ok(());
    k.when(inside, |k| result = one(k, w, thread));
    result?;
    Ok(k.finish("windows", 2 + u32::from(w.indices.is_some()), s.threads, (facts.results as u32).div_ceil(s.threads)))
}

/// What is known of a window so far.
struct State {
    /// The largest element or the sum.
    value: Val,
    /// Where it is among the elements, or -1.
    place: Val,
    /// What a mean divides by.
    count: Val,
}

fn one(k: &mut Writer, w: &Window, thread: Val) -> Result<(), Unsupported> {
    let (dtype, rank) = (w.input.dtype, w.dims.len());
    let loops: Vec<usize> = (0..rank).collect();
    let ty = scalar::register(dtype);
    let least = match w.kind {
        WindowKind::Max if dtype.is_float() => k.float(f64::NEG_INFINITY, ty),
        WindowKind::Max => k.int(dtype.int_range().0, ty),
        _ => k.float(0.0, ty),
    };
    let (zero, none) = (k.int(0, Ty::S32), k.int(-1, Ty::S32));
    let state = State { value: k.variable(least), place: k.variable(none), count: k.variable(zero) };
    let mut point = vec![k.int(0, Ty::U32); rank];
    split(k, thread, &loops, &w.output.view.shape, &mut point);
    let sizes: Vec<usize> = w.dims.iter().map(|d| d.size).collect();
    let dense = View::dense(&w.input.view.shape).strides;
    let better = better(dtype);
    let mut result = Ok(());
    k.repeat(sizes.iter().product::<usize>() as u32, |k, tap| {
        let mut taps = vec![k.int(0, Ty::U32); rank];
        split(k, tap, &loops, &sizes, &mut taps);
        let (mut inside, mut padded) = (None, None);
        let (mut at, mut logical) = (k.int(w.input.view.offset as i64, Ty::S32), zero);
        for (d, dim) in w.dims.iter().enumerate() {
            let extent = w.input.view.shape[d];
            let (first, moved) = (k.scaled(point[d], dim.stride as i64), k.scaled(taps[d], dim.dilation as i64));
            let i = k.add(first, moved);
            let i = k.plus(Val { ty: Ty::S32, ..i }, -(dim.pad as i64));
            // As an unsigned number a negative index is beyond every extent.
            let within = k.below(Val { ty: Ty::U32, ..i }, extent as i64);
            let counted = k.below(i, (extent + dim.pad_end) as i64);
            (inside, padded) = (k.both(inside, Some(within)), k.both(padded, Some(counted)));
            let (moved, place) = (k.scaled(i, w.input.view.strides[d]), k.scaled(i, dense[d]));
            (at, logical) = (k.add(at, moved), k.add(logical, place));
        }
        let counted = if w.count_pad { padded } else { inside };
        if let (WindowKind::Mean, Some(counted)) = (w.kind, counted) {
            k.when(counted, |k| {
                let next = k.plus(state.count, 1);
                k.assign(state.count, next);
            });
        }
        let take = |k: &mut Writer| {
            let address = k.element(0, at, dtype.bytes());
            let x = scalar::load_neighbours(k, dtype, address, 0, 1)[0];
            if w.kind != WindowKind::Max {
                let next = k.add(state.value, x);
                return k.assign(state.value, next);
            }
            let inputs = [state.value, x, state.place, logical];
            match scalar::emit(k, &better, &inputs, &mut |k, _| k.int(0, Ty::U32)) {
                Ok(next) => {
                    k.assign(state.value, next[0]);
                    k.assign(state.place, next[1]);
                }
                Err(e) => result = Err(e),
            }
        };
        k.when_some(inside, take);
    });
    result?;
    finish(k, w, (thread, &loops), &state);
    Ok(())
}

fn finish(k: &mut Writer, w: &Window, (thread, loops): (Val, &[usize]), state: &State) {
    let value = if w.kind == WindowKind::Mean {
        let count = scalar::convert(k, state.count, state.value.ty);
        k.op(state.value.ty, crate::ptx::Op::Div, &[state.value, count])
    } else {
        state.value
    };
    let zero = k.int(0, Ty::S32);
    let place = k.extreme(true, state.place, zero);
    let place = scalar::convert(k, place, Ty::S64);
    for (param, (o, value)) in [(Some(&w.output), value), (w.indices.as_ref(), place)].into_iter().enumerate() {
        let Some(o) = o else { continue };
        let linear = Linear::view(&o.view, &w.output.view.shape);
        let moved = linear.term(k, thread, loops);
        let at = k.plus(moved.offset, linear.base);
        let to = k.element(1 + param as u32, at, o.dtype.bytes());
        scalar::store_neighbours(k, o.dtype, to, 0, &[value]);
    }
}

/// The larger of two elements with its position, the first of equal ones; what is no number is larger than all that are.
fn better(dtype: DType) -> ScalarFn {
    let mut f = ScalarFn::default();
    let [best, x] = [0, 1].map(|i| f.input(i, dtype));
    let [place, here] = [2, 3].map(|i| f.input(i, DType::I32));
    let zero = f.constant(0.0, DType::I32);
    let (none, larger) = (f.binary(Binary::Lt, place, zero), f.binary(Binary::Lt, best, x));
    let mut taken = f.binary(Binary::Or, none, larger);
    if dtype.is_float() {
        let (not, known) = (f.unary(Unary::IsNan, x), f.unary(Unary::IsNan, best));
        let known = f.unary(Unary::Not, known);
        let not = f.binary(Binary::And, not, known);
        taken = f.binary(Binary::Or, taken, not);
    }
    f.outputs = vec![f.select(taken, x, best), f.select(taken, here, place)];
    f
}
