//! Depthwise convolution: every channel by itself, vectors along the channels.

use super::contraction::{OUTSIDE, row_table};
use super::epilogue::Epilogue;
use super::isa::dispatch;
use super::microkernel::STRIDE;
use super::{Bound, Cx, part};
use wpk_plan::problem::Contraction;

/// Rows of a tile.
const ROWS: usize = 8;

struct Channelwise {
    table: Vec<i32>,
    taps: usize,
    rows: usize,
    channels: usize,
    epilogue: Epilogue,
}

/// For a contraction in which every loop of the second factor but the window belongs to the first too.
pub(super) fn bind(c: &Contraction) -> Option<Box<dyn Bound>> {
    let roles = c.roles();
    let [.., last] = roles.batch[..] else { return None };
    if !roles.n.is_empty() || roles.channel.is_some() {
        return None;
    }
    // Channels lie together in the input and the weights, and weights by tap.
    let contiguous = |offsets: Vec<i64>| offsets.iter().enumerate().all(|(i, &o)| o == i as i64);
    let channels = roles.count(&roles.batch);
    let taps = roles.count(&roles.taps);
    let weights = roles.offsets(&c.b, &[roles.taps.clone(), roles.batch.clone()].concat())?;
    if !contiguous(roles.offsets(&c.a, &roles.batch)?) || !contiguous(weights) || c.b.base() != 0 || c.space[last] < 2 {
        return None;
    }
    let table = row_table(c, &roles.m, &roles.taps)?;
    let epilogue = Epilogue::new(c, &[], &roles.m, &roles.batch)?;
    Some(Box::new(Channelwise { table, taps, rows: roles.count(&roles.m), channels, epilogue }))
}

impl Bound for Channelwise {
    fn scratch(&self) -> (usize, usize) {
        (0, ROWS * STRIDE * 4 + self.epilogue.scratch())
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let (tiles, groups) = (self.rows.div_ceil(ROWS), self.channels.div_ceil(STRIDE));
        let total = tiles * groups;
        let tasks = if cx.pool.threads() == 1 { 1 } else { (4 * cx.pool.threads()).min(total) };
        let arguments = Arguments(args);
        cx.pool.run(tasks, &|task, thread| unsafe {
            let tile = cx.own(thread).cast::<f32>();
            let scratch = tile.add(ROWS * STRIDE).cast::<u8>();
            for unit in part(total, tasks, task) {
                let (row, channel) = (unit / groups * ROWS, unit % groups * STRIDE);
                let (height, width) = ((self.rows - row).min(ROWS), (self.channels - channel).min(STRIDE));
                let args = arguments.get();
                let (x, w) = (args[0].cast::<f32>().add(channel), args[1].cast::<f32>().add(channel));
                let table = &self.table[row * self.taps..(row + height) * self.taps];
                sums(table, self.taps, x, w, self.channels, width, tile);
                self.epilogue.store(tile, 0, row, height, channel, width, args, scratch);
            }
        });
    }
}

struct Arguments<'a>(&'a [*mut u8]);
unsafe impl Sync for Arguments<'_> {}

impl<'a> Arguments<'a> {
    fn get(&self) -> &'a [*mut u8] {
        self.0
    }
}

dispatch! {
    unsafe fn sums(table: &[i32], taps: usize, x: *const f32, w: *const f32, channels: usize, width: usize, tile: *mut f32) = sums_body
}

#[inline(always)]
unsafe fn sums_body(table: &[i32], taps: usize, x: *const f32, w: *const f32, channels: usize, width: usize, tile: *mut f32) {
    let mut at = 0;
    while at + 32 <= width {
        unsafe { lanes::<32>(table, taps, x.add(at), w.add(at), channels, tile.add(at)) }
        at += 32;
    }
    while at + 16 <= width {
        unsafe { lanes::<16>(table, taps, x.add(at), w.add(at), channels, tile.add(at)) }
        at += 16;
    }
    for at in at..width {
        unsafe { lanes::<1>(table, taps, x.add(at), w.add(at), channels, tile.add(at)) }
    }
}

#[inline(always)]
unsafe fn lanes<const N: usize>(table: &[i32], taps: usize, x: *const f32, w: *const f32, channels: usize, tile: *mut f32) {
    for (r, offsets) in table.chunks_exact(taps).enumerate() {
        let mut sum = [0f32; N];
        for (t, &offset) in offsets.iter().enumerate() {
            if offset == OUTSIDE {
                continue;
            }
            unsafe {
                let (x, w) = (x.offset(offset as isize), w.add(t * channels));
                for i in 0..N {
                    sum[i] += *x.add(i) * *w.add(i);
                }
            }
        }
        unsafe { tile.add(r * STRIDE).cast::<[f32; N]>().write_unaligned(sum) }
    }
}
