//! Transposed convolutions as plain ones: an index that is divided by a stride is whole for every stride-th result alone, so the
//! results fall into phases, each of which reads its own taps of the window and divides nothing.

use wpk_plan::problem::{Access, Contraction};

/// The phases of a contraction; itself where no index is divided, or a phase would have no taps.
pub fn phases(c: Contraction) -> Vec<Contraction> {
    split(&c).unwrap_or_else(|| vec![c])
}

fn split(c: &Contraction) -> Option<Vec<Contraction>> {
    let Some(d) = c.a.dims.iter().position(|d| d.index.divisor > 1) else { return Some(vec![c.clone()]) };
    let index = &c.a.dims[d].index;
    let s = index.divisor;
    let [(o, 1), (k, ck)] = index.terms[..] else { return None };
    let (o, k) = (usize::from(o), usize::from(k));
    if o >= c.outer || k < c.outer || c.epilogue.uses_index() {
        return None;
    }
    let step = s / gcd(ck.abs(), s);
    let mut all = vec![];
    for phase in 0..s.min(c.space[o] as i64) {
        let first = (0..step).find(|t| (index.offset + phase + ck * t).rem_euclid(s) == 0).filter(|&t| t < c.space[k] as i64)?;
        let mut part = c.clone();
        part.space[o] = (c.space[o] - phase as usize).div_ceil(s as usize);
        part.space[k] = (c.space[k] - first as usize).div_ceil(step as usize);
        for access in [&mut part.a, &mut part.b] {
            substitute(access, o, (s, phase));
            substitute(access, k, (step, first));
        }
        let index = &mut part.a.dims[d].index;
        index.offset /= s;
        index.terms.iter_mut().for_each(|t| t.1 /= s);
        index.divisor = 1;
        for view in part.extras.iter_mut().map(|e| &mut e.view).chain([&mut part.out.view]) {
            view.offset = (view.offset as i64 + phase * view.strides[o]) as usize;
            view.strides[o] *= s;
            view.shape[o] = part.space[o];
        }
        all.extend(split(&part)?);
    }
    Some(all)
}

/// Replaces a loop by `scale * loop + start`.
fn substitute(access: &mut Access, l: usize, (scale, start): (i64, i64)) {
    for index in access.dims.iter_mut().map(|d| &mut d.index) {
        for (_, c) in index.terms.iter_mut().filter(|t| usize::from(t.0) == l) {
            index.offset += *c * start;
            *c *= scale;
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
