//! Pointwise maps: every thread computes a few neighbouring elements.

use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::Map;
use wpk_plan::{View, Walk};

schedule! {
    /// How a map is computed.
    Pointwise(Map => Facts) = "pointwise" {
        /// Threads of a block.
        threads: [64, 128, 256, 512, 1024],
        /// Neighbouring elements a thread computes.
        vector: [1, 2, 4, 8],
    }
}

/// What a schedule of a map depends on.
pub struct Facts {
    total: usize,
    inner: usize,
    /// Bytes of the largest element.
    size: usize,
    /// Nanoseconds that the traffic takes.
    traffic: f64,
}

impl Facts {
    fn of(p: &Map, arch: &Arch) -> Self {
        let walk = walk(p);
        let views = p.inputs.iter().chain(&p.outputs);
        let bytes: usize = views.clone().map(|o| o.view.len() * o.dtype.bytes()).sum();
        let size = views.map(|o| o.dtype.bytes()).max().unwrap_or(1);
        Self { size, total: walk.shape.iter().product(), inner: walk.inner(), traffic: bytes as f64 / arch.bandwidth }
    }
}

impl Pointwise {
    fn fits(&self, facts: &Facts) -> bool {
        facts.total < 1 << 31 && facts.inner.is_multiple_of(self.vector as usize) && self.vector as usize * facts.size <= 32
    }

    /// Wide accesses and blocks of 128.
    fn estimate(&self, facts: &Facts) -> f64 {
        let uneven = f64::from(self.threads.abs_diff(128)) / 1e4;
        1000.0 + facts.traffic.max(1.0) * (1.0 + 0.5 / f64::from(self.vector) + uneven)
    }
}

fn walk(p: &Map) -> Walk {
    let views: Vec<&View> = p.inputs.iter().chain(&p.outputs).map(|o| &o.view).collect();
    Walk::new(&views, !p.function.uses_index())
}

/// The kernel of a map; its parameters are the inputs, then the outputs.
///
/// # Errors
/// Where the schedule does not fit, or the function has an operation that is not generated yet.
pub fn pointwise(p: &Map, schedule: &Pointwise, arch: &Arch) -> Result<Kernel, Unsupported> {
    if !schedule.legal(&Facts::of(p, arch)) {
        return Err(Unsupported(format!("{schedule:?} does not fit {:?}", p.shape)));
    }
    let walk = walk(p);
    let n = schedule.vector as usize;
    let total = walk.rows() * walk.inner() / n;
    let mut k = Writer::for_arch(arch);
    k.fast = p.outputs.iter().all(|o| o.dtype.is_float() && o.dtype.bytes() == 2);
    let thread = k.thread(schedule.threads);
    let blocks = (total as u32).div_ceil(schedule.threads);
    let mut result = Ok(());
    if total.is_multiple_of(schedule.threads as usize) {
        result = body(&mut k, p, &walk, thread, n);
    } else {
        let end = k.int(total as i64, Ty::U32);
        let inside = k.compare(Cmp::Lt, thread, end);
        k.when(inside, |k| result = body(k, p, &walk, thread, n));
    }
    result?;
    let params = (p.inputs.len() + p.outputs.len()) as u32;
    Ok(k.finish("pointwise", params, schedule.threads, blocks))
}

fn body(k: &mut Writer, p: &Map, walk: &Walk, thread: Val, n: usize) -> Result<(), Unsupported> {
    let rank = walk.shape.len();
    let mut coordinates = vec![k.int(0, Ty::U32); rank];
    let mut rest = thread;
    for d in (0..rank).rev() {
        let extent = walk.shape[d] / if d + 1 == rank { n } else { 1 };
        if d == 0 {
            coordinates[0] = rest;
        } else {
            (rest, coordinates[d]) = k.div_rem(rest, extent as u32);
        }
    }
    let width = k.int(n as i64, Ty::U32);
    coordinates[rank - 1] = k.mul(coordinates[rank - 1], width);

    let place = |k: &mut Writer, operand: usize| {
        let mut at = k.int(walk.offsets[operand], Ty::S32);
        for (d, &c) in coordinates.iter().enumerate() {
            let stride = k.int(walk.strides[operand][d], Ty::S32);
            let term = k.mul(Val { ty: Ty::S32, ..c }, stride);
            at = k.add(at, term);
        }
        at
    };
    // Neighbours can be accessed at once where they are together and begin at a multiple of their number.
    let together = |operand: usize| {
        let aligned = walk.strides[operand][..rank - 1].iter().all(|s| s % n as i64 == 0) && walk.offsets[operand] % n as i64 == 0;
        n > 1 && walk.step(operand) == 1 && aligned
    };
    let mut lanes: Vec<Vec<Val>> = vec![vec![]; n];
    for (i, input) in p.inputs.iter().enumerate() {
        let (size, first) = (input.dtype.bytes(), place(k, i));
        let loaded: Vec<Val> = if together(i) {
            let address = k.element(i as u32, first, size);
            scalar::load_neighbours(k, input.dtype, address, 0, n)
        } else {
            let count = if walk.step(i) == 0 { 1 } else { n };
            let mut list = vec![];
            for j in 0..count {
                let at = k.plus(first, j as i64 * walk.step(i));
                let address = k.element(i as u32, at, size);
                list.extend(scalar::load_neighbours(k, input.dtype, address, 0, 1));
            }
            list.iter().copied().cycle().take(n).collect()
        };
        lanes.iter_mut().zip(loaded).for_each(|(lane, v)| lane.push(v));
    }
    let mut results: Vec<Vec<Val>> = vec![];
    for (j, inputs) in lanes.iter().enumerate() {
        let mut coordinate = |k: &mut Writer, d: usize| {
            let j = k.int(if d + 1 == rank { j as i64 } else { 0 }, Ty::U32);
            k.add(coordinates[d], j)
        };
        results.push(scalar::emit_stored(k, &p.function, inputs, &mut coordinate)?);
    }
    for (o, output) in p.outputs.iter().enumerate() {
        let (operand, size) = (p.inputs.len() + o, output.dtype.bytes());
        let first = place(k, operand);
        let values: Vec<Val> = results.iter().map(|lane| lane[o]).collect();
        if together(operand) {
            let address = k.element(operand as u32, first, size);
            scalar::store_neighbours(k, output.dtype, address, 0, &values);
            continue;
        }
        for (j, &value) in values.iter().enumerate() {
            let at = k.plus(first, j as i64 * walk.step(operand));
            let address = k.element(operand as u32, at, size);
            scalar::store_neighbours(k, output.dtype, address, 0, &[value]);
        }
    }
    Ok(())
}
