//! Attention, a head at a time: keys and values packed into panels, scores and their softmax in scratch memory.

use super::isa::{dispatch, lanes};
use super::microkernel::{Direct, Kernels, Next, ROWS, RowPointers, STRIDE};
use super::simd::Lanes;
use super::{Args, Bound, Cx, functions, part, places::pack_panel};
use wpk_plan::problem::{Attention, PANEL};
use wpk_plan::{DType, View};

struct Heads {
    p: Attention,
    kernels: Kernels,
    depth_offsets: Vec<i64>,
    key_offsets: Vec<i64>,
    value_rows: Vec<i64>,
    value_columns: Vec<i64>,
}

pub(super) fn bind(p: &Attention) -> Result<Box<dyn Bound>, String> {
    let last = |v: &View| v.strides[3] == 1 || v.shape[3] == 1;
    let operands = [&p.q, &p.k, &p.v, &p.out];
    if !last(&p.q.view)
        || !last(&p.out.view)
        || operands.iter().any(|o| o.dtype != DType::F32)
        || p.mask.as_ref().is_some_and(|m| m.dtype != DType::F32)
    {
        return Err("attention takes f32 with rows in one piece".to_owned());
    }
    let along = |v: &View, d: usize| (0..v.shape[d] as i64).map(|i| i * v.strides[d]).collect();
    Ok(Box::new(Heads {
        kernels: Kernels::get(),
        depth_offsets: along(&p.k.view, 3),
        key_offsets: along(&p.k.view, 2),
        value_rows: along(&p.v.view, 2),
        value_columns: along(&p.v.view, 3),
        p: p.clone(),
    }))
}

impl Heads {
    fn sizes(&self) -> (usize, usize, usize, usize, usize) {
        let [batch, heads, queries, depth] = self.p.q.view.shape[..] else { return (0, 0, 0, 0, 0) };
        (batch * heads, queries, self.p.k.view.shape[2], depth, self.p.v.view.shape[3])
    }

    /// Floats of one thread's packed keys, packed values and scores.
    fn floats(&self) -> (usize, usize, usize) {
        let (_, _, keys, depth, width) = self.sizes();
        let wide = keys.next_multiple_of(PANEL);
        (wide * depth, width.next_multiple_of(PANEL) * keys, wide * ROWS)
    }
}

impl Bound for Heads {
    fn scratch(&self) -> (usize, usize) {
        let (k, v, s) = self.floats();
        (0, (k + v + s + ROWS * STRIDE) * 4 + size_of::<RowPointers>() + 192)
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let (heads, queries, ..) = self.sizes();
        let threads = cx.pool.threads();
        // Few heads are split by queries, at the price of packing their keys again.
        let splits =
            if heads >= 4 * threads || threads == 1 { 1 } else { (2 * threads).div_ceil(heads.max(1)).min(queries.div_ceil(32)).max(1) };
        let arguments = Args(args);
        cx.pool.run(heads * splits, &|task, thread| unsafe {
            self.head(arguments.get(), task / splits, part(queries, splits, task % splits), cx.own(thread));
        });
    }
}

impl Heads {
    unsafe fn head(&self, args: &[*mut u8], head: usize, queries: std::ops::Range<usize>, own: *mut u8) {
        let (_, _, keys, depth, width) = self.sizes();
        let heads = self.p.q.view.shape[1];
        let (b, h) = (head / heads, head % heads);
        let origin = |v: &View| v.offset as i64 + b as i64 * v.strides[0] + h as i64 * v.strides[1];
        let at = |i: usize, v: &View| args[i].cast::<f32>().wrapping_offset(origin(v) as isize);
        let (q, k, v) = (at(0, &self.p.q.view), at(1, &self.p.k.view), at(2, &self.p.v.view));
        let out = at(args.len() - 1, &self.p.out.view);
        let (packed_keys, packed_values, scores) = self.floats();
        let pointers = own.cast::<RowPointers>();
        unsafe {
            let key_panels = own.add(size_of::<RowPointers>()).cast::<f32>();
            let value_panels = key_panels.add(packed_keys);
            let rows = value_panels.add(packed_values);
            let tile = rows.add(scores);
            let wide = keys.next_multiple_of(PANEL);
            for (i, n) in self.key_offsets.chunks(PANEL).enumerate() {
                pack_panel(k, &self.depth_offsets, n, key_panels.add(i * PANEL * depth));
            }
            for (i, n) in self.value_columns.chunks(PANEL).enumerate() {
                pack_panel(v, &self.value_rows, n, value_panels.add(i * PANEL * keys));
            }
            let height = self.kernels.rows(self.kernels.panels);
            let count = queries.len().div_ceil(height);
            let soften = softener();
            let columns: [u32; ROWS] = std::array::from_fn(|r| (r * wide) as u32);
            for t in 0..count {
                let range = part(queries.len(), count, t);
                let (row, height) = (queries.start + range.start, range.len());
                let stride = self.p.q.view.strides[2] as isize;
                for r in 0..height {
                    (*pointers)[r] = q.wrapping_offset((row + r) as isize * stride);
                }
                self.panels(height, wide / PANEL, |n, first| {
                    let to = Direct {
                        last: PANEL,
                        bias: std::ptr::null(),
                        residual: std::ptr::null(),
                        theirs: std::ptr::null(),
                        bounds: (f32::NEG_INFINITY, f32::INFINITY),
                        to: rows.add(first * PANEL),
                        rows: columns.as_ptr(),
                    };
                    self.kernels.direct(height, n)(
                        pointers,
                        1,
                        depth,
                        1,
                        key_panels.add(first * PANEL * depth),
                        PANEL * depth,
                        to,
                        Next::NONE,
                    );
                });
                let mut factors = [0.0; ROWS];
                for r in 0..height {
                    let scores = rows.add(r * wide);
                    factors[r] = soften(scores, keys, self.p.scale as f32, self.mask(args, (b, h, row + r)));
                    (*pointers)[r] = scores;
                }
                let stride = self.p.out.view.strides[2] as isize;
                self.panels(height, width.div_ceil(PANEL), |n, first| {
                    let panels = value_panels.add(first * PANEL * keys);
                    self.kernels.kernel(height, n)(pointers, 1, keys, 1, panels, PANEL * keys, tile, false, Next::NONE);
                    let columns = (width - first * PANEL).min(n * PANEL);
                    for r in 0..height {
                        let to = out.offset((row + r) as isize * stride).add(first * PANEL);
                        scaled(tile.add(r * STRIDE), factors[r], to, columns);
                    }
                });
            }
        }
    }

    /// Groups of up to as many panels as a tile of so many rows has, all alike: a last one of few would wait for its sums. How many, and the first.
    fn panels(&self, height: usize, panels: usize, each: impl Fn(usize, usize)) {
        // Fewer panels may allow more rows, never fewer.
        let groups = panels.div_ceil(self.kernels.panels_for(height));
        (0..groups).map(|i| part(panels, groups, i)).for_each(|group| each(group.len(), group.start));
    }

    /// Where the mask of a row begins, and how far its elements are apart.
    fn mask(&self, args: &[*mut u8], (b, h, row): (usize, usize, usize)) -> (*const f32, isize) {
        let Some(m) = &self.p.mask else { return (std::ptr::null(), 0) };
        let s = &m.view.strides;
        let at = m.view.offset as i64 + b as i64 * s[0] + h as i64 * s[1] + row as i64 * s[2];
        (args[3].cast::<f32>().wrapping_offset(at as isize).cast_const(), s[3] as isize)
    }
}

dispatch! {
    /// `to = x * factor`
    unsafe fn scaled(x: *const f32, factor: f32, to: *mut f32, n: usize) = scaled_body
}

#[inline(always)]
unsafe fn scaled_body(x: *const f32, factor: f32, to: *mut f32, n: usize) {
    let whole = n / PANEL * PANEL;
    for at in (0..whole).step_by(PANEL) {
        unsafe {
            let mut lanes = x.add(at).cast::<[f32; PANEL]>().read_unaligned();
            lanes.iter_mut().for_each(|x| *x *= factor);
            to.add(at).cast::<[f32; PANEL]>().write_unaligned(lanes);
        }
    }
    (whole..n).for_each(|i| unsafe { to.add(i).write(*x.add(i) * factor) });
}

/// Makes the scores of a row, so many of them, scaled and with a mask added where there is one, weights whose sum is one over the result. Rows
/// are padded to whole panels.
type Soften = unsafe fn(*mut f32, usize, f32, (*const f32, isize)) -> f32;

fn softener() -> Soften {
    macro_rules! compiled {
        ($V:ty $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn soften(scores: *mut f32, keys: usize, scale: f32, mask: (*const f32, isize)) -> f32 {
                unsafe { soften_body::<$V>(scores, keys, scale, mask) }
            }
            soften
        }};
    }
    lanes!(compiled)
}

#[inline(always)]
unsafe fn soften_body<V: Lanes>(scores: *mut f32, keys: usize, scale: f32, (mask, step): (*const f32, isize)) -> f32 {
    unsafe {
        // Powers of two: what is scaled by the logarithm of e is one less product a weight.
        let scale = V::splat(scale * std::f32::consts::LOG2_E);
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let wide = keys.next_multiple_of(PANEL);
        let mut max = V::splat(f32::NEG_INFINITY);
        for at in (0..wide).step_by(PANEL) {
            let mut x = zero.mul_add(V::load(scores.add(at)), scale);
            let left = keys - at;
            if !mask.is_null() {
                let more = if step == 1 && left >= PANEL {
                    V::load(mask.add(at))
                } else {
                    let mut all = [0.0f32; PANEL];
                    (0..PANEL.min(left)).for_each(|i| all[i] = *mask.offset((at + i) as isize * step));
                    V::load(all.as_ptr())
                };
                x = x.mul_add(more, V::splat(std::f32::consts::LOG2_E));
            }
            x.store(scores.add(at));
            if left < PANEL {
                // Behind the last key.
                (left..PANEL).for_each(|i| scores.add(at + i).write(f32::NEG_INFINITY));
                x = V::load(scores.add(at));
            }
            max = max.greater(x);
        }
        let max = across(max, |a, b| if b > a || b.is_nan() { b } else { a });
        let less = V::splat(-max);
        let mut sum = zero;
        for at in (0..wide).step_by(PANEL) {
            let weight = functions::exp2(V::load(scores.add(at)).mul_add(less, one));
            weight.store(scores.add(at));
            sum = sum.mul_add(weight, one);
        }
        1.0 / across(sum, |a, b| a + b)
    }
}

/// All lanes as one.
#[inline(always)]
unsafe fn across<V: Lanes>(x: V, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut all = [0.0; PANEL];
    unsafe { x.store(all.as_mut_ptr()) };
    let mut half = PANEL / 2;
    while half > 0 {
        (0..half).for_each(|l| all[l] = f(all[l], all[l + half]));
        half /= 2;
    }
    all[0]
}
