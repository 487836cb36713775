//! Data movement: strided copies by element size.

use super::{Bound, Cx, Shared, part};
use wpk_plan::Walk;
use wpk_plan::problem::Move;
use wpk_plan::{DType, View};

struct Bind {
    dtype: DType,
    parts: Vec<Walk>,
    fill: Option<u64>,
    /// What is filled.
    around: Vec<Walk>,
}

pub(super) fn bind(p: &Move) -> Result<Box<dyn Bound>, String> {
    let parts = p.parts.iter().filter(|part| !part.from.is_empty()).map(|part| Walk::new(&[&part.from, &part.to], true).longest_inner());
    let fill = p.fill.filter(|_| !p.out.is_empty()).map(|bits| pattern(p.dtype, bits));
    let slabs = match (&p.parts[..], fill) {
        (_, None) => vec![],
        ([one], _) => border(&p.out, &one.to).unwrap_or_else(|| vec![p.out.clone()]),
        _ => vec![p.out.clone()],
    };
    let zero = |v: &View| View { offset: 0, shape: v.shape.clone(), strides: vec![0; v.shape.len()] };
    let around: Vec<Walk> = slabs.iter().filter(|v| !v.is_empty()).map(|v| Walk::new(&[&zero(v), v], true)).collect();
    // Copies of empty parts have no walk, so arguments are matched again when running.
    if p.parts.iter().any(|part| part.from.is_empty()) {
        let filled: Vec<Walk> = p.parts.iter().map(|part| Walk::new(&[&part.from, &part.to], false)).collect();
        return Ok(Box::new(Bind { dtype: p.dtype, parts: filled, fill, around }));
    }
    Ok(Box::new(Bind { dtype: p.dtype, parts: parts.collect(), fill, around }))
}

/// What of a dense tensor is around a part of it, as boxes that do not overlap.
fn border(out: &View, part: &View) -> Option<Vec<View>> {
    if !out.is_dense() || part.strides != out.strides || part.is_empty() {
        return None;
    }
    let mut rest = part.offset.checked_sub(out.offset)?;
    let start: Vec<usize> = out.strides.iter().map(|&s| (rest / s as usize, rest %= s as usize).0).collect();
    let mut boxes = vec![];
    for d in 0..start.len() {
        let end = start[d] + part.shape[d];
        for (from, to) in [(0, start[d]), (end, out.shape[d])] {
            // Dimensions before this one are within the part, those behind it whole.
            let (mut first, mut count) = (vec![0; start.len()], out.shape.clone());
            first[..d].copy_from_slice(&start[..d]);
            count[..d].copy_from_slice(&part.shape[..d]);
            (first[d], count[d]) = (from, to.saturating_sub(from));
            boxes.push(out.slice(&first, &vec![1; start.len()], &count));
        }
    }
    Some(boxes)
}

/// The bytes of a fill value in the element type.
fn pattern(t: DType, bits: u64) -> u64 {
    let x = f64::from_bits(bits);
    match t {
        DType::F64 => bits,
        DType::F32 => u64::from((x as f32).to_bits()),
        // Half types move by their bits; only zero and infinities are ever written.
        DType::F16 | DType::BF16 => {
            let mut lane = [x as f32];
            let mut out = [0u16];
            unsafe { super::map::store(t, lane.as_mut_ptr().cast(), out.as_mut_ptr().cast(), 1, 1) };
            u64::from(out[0])
        }
        t if t.is_float() => {
            let mut out = 0u8;
            unsafe { super::map::store(t, std::ptr::from_mut(&mut (x as f32)).cast(), &raw mut out, 1, 1) };
            u64::from(out)
        }
        _ => bits,
    }
}

impl Bound for Bind {
    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let out = args[args.len() - 1];
        if let Some(bits) = &self.fill {
            let source = Shared(std::ptr::from_ref(bits).cast_mut().cast::<u8>());
            self.around.iter().for_each(|walk| unsafe { copy(walk, self.dtype.bytes(), source, Shared(out), cx) });
        }
        for (walk, &from) in self.parts.iter().zip(args) {
            unsafe { copy(walk, self.dtype.bytes(), Shared(from), Shared(out), cx) }
        }
    }
}

unsafe fn copy(walk: &Walk, size: usize, from: Shared<u8>, to: Shared<u8>, cx: &Cx<'_>) {
    let (rows, inner) = (walk.rows(), walk.inner());
    if rows * inner == 0 {
        return;
    }
    let tasks = if rows * inner < 16 * 1024 { 1 } else { (cx.pool.threads() * 4).min(rows) };
    cx.pool.run(tasks, &|task, _| {
        for row in part(rows, tasks, task) {
            let (f, t) = (walk.row(0, row) as isize * size as isize, walk.row(1, row) as isize * size as isize);
            let (f, t) = (from.get().wrapping_offset(f), to.get().wrapping_offset(t));
            let (a, b) = (walk.step(0) as isize, walk.step(1) as isize);
            unsafe {
                match size {
                    _ if a == 1 && b == 1 => std::ptr::copy_nonoverlapping(f, t, inner * size),
                    1 if a == 0 && b == 1 => std::ptr::write_bytes(t, *f, inner),
                    1 => strided::<u8>(f, t, a, b, inner),
                    2 => strided::<u16>(f, t, a, b, inner),
                    4 => strided::<u32>(f, t, a, b, inner),
                    _ => strided::<u64>(f, t, a, b, inner),
                }
            }
        }
    });
}

#[inline(always)]
unsafe fn strided<T: Copy>(from: *const u8, to: *mut u8, a: isize, b: isize, n: usize) {
    let (from, to) = (from.cast::<T>(), to.cast::<T>());
    for i in 0..n as isize {
        unsafe { to.offset(i * b).write_unaligned(from.offset(i * a).read_unaligned()) }
    }
}
