//! Attention, a head at a time: keys and values packed into panels, scores and their softmax in scratch memory.

use super::isa::dispatch;
use super::microkernel::{Kernels, ROWS, RowPointers, STRIDE};
use super::rows::softmax_row;
use super::{Args, Bound, Cx, contraction::pack_panel, part};
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
            for t in 0..count {
                let range = part(queries.len(), count, t);
                let (row, height) = (queries.start + range.start, range.len());
                let stride = self.p.q.view.strides[2] as isize;
                for r in 0..height {
                    (*pointers)[r] = q.wrapping_offset((row + r) as isize * stride);
                }
                self.product(pointers, height, depth, key_panels, wide / PANEL, tile, |r, column, sums| {
                    std::ptr::copy_nonoverlapping(sums, rows.add(r * wide + column), PANEL);
                });
                for r in 0..height {
                    let scores = rows.add(r * wide);
                    self.scale_and_mask(args, (b, h, row + r), scores, keys);
                    softmax_row(scores, scores, keys, false);
                    (*pointers)[r] = scores;
                }
                let stride = self.p.out.view.strides[2] as isize;
                self.product(pointers, height, keys, value_panels, width.div_ceil(PANEL), tile, |r, column, sums| {
                    let to = out.offset((row + r) as isize * stride).add(column);
                    std::ptr::copy_nonoverlapping(sums, to, PANEL.min(width - column));
                });
            }
        }
    }

    /// Rows times panels; `store` gets every row of every panel.
    unsafe fn product(
        &self,
        pointers: *const RowPointers,
        height: usize,
        depth: usize,
        b: *const f32,
        panels: usize,
        tile: *mut f32,
        store: impl Fn(usize, usize, *const f32),
    ) {
        let mut first = 0;
        while first < panels {
            let n = (panels - first).min(self.kernels.panels);
            unsafe {
                // Fewer panels may allow more rows, never fewer.
                self.kernels.kernel(height, n)(pointers, 1, depth, 1, b.add(first * PANEL * depth), PANEL * depth, tile, false);
                for r in 0..height {
                    for p in 0..n {
                        store(r, (first + p) * PANEL, tile.add(r * STRIDE + p * PANEL));
                    }
                }
            }
            first += n;
        }
    }

    unsafe fn scale_and_mask(&self, args: &[*mut u8], (b, h, row): (usize, usize, usize), scores: *mut f32, keys: usize) {
        let scale = self.p.scale as f32;
        unsafe {
            match &self.p.mask {
                None => scaled(scores, scale, std::ptr::null(), 0, keys),
                Some(m) => {
                    let s = &m.view.strides;
                    let at = m.view.offset as i64 + b as i64 * s[0] + h as i64 * s[1] + row as i64 * s[2];
                    scaled(scores, scale, args[3].cast::<f32>().offset(at as isize), s[3] as isize, keys);
                }
            }
        }
    }
}

dispatch! {
    /// `scores * scale + mask`
    unsafe fn scaled(scores: *mut f32, scale: f32, mask: *const f32, step: isize, n: usize) = scaled_body
}

#[inline(always)]
unsafe fn scaled_body(scores: *mut f32, scale: f32, mask: *const f32, step: isize, n: usize) {
    // Rows of scores are padded to whole panels, so the last group may run over.
    for at in (0..n).step_by(PANEL) {
        unsafe {
            let to = scores.add(at).cast::<[f32; PANEL]>();
            let mut lanes = to.read();
            (0..PANEL).for_each(|i| lanes[i] *= scale);
            if step == 1 && at + PANEL <= n {
                let mask = mask.add(at).cast::<[f32; PANEL]>().read_unaligned();
                (0..PANEL).for_each(|i| lanes[i] += mask[i]);
            } else if !mask.is_null() {
                (0..PANEL.min(n - at)).for_each(|i| lanes[i] += *mask.offset((at + i) as isize * step));
            }
            to.write(lanes);
        }
    }
}
