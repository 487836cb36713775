//! Contractions in `f32` as products of packed panels: the first factor is read where it lies, through a table of row
//! offsets, so that a convolution needs no im2col buffer. After the indirect convolution of XNNPACK (Dukhan, 2019).

use super::chain::ByRows;
use super::epilogue::Epilogue;
use super::microkernel::{Kernels, NEAR, Next, PANELS, ROWS, RowPointers, STRIDE};
use super::places::{OUTSIDE, pack_panel, reach, row_table};
use super::{Bound, Cx, Shared, channelwise, copied, generic, levels, pairs, part, quads, winograd};
use std::ops::Range;
use wpk_plan::problem::{Contraction, PANEL, Roles};
use wpk_plan::{Blocking, CpuSchedule, DType, WeightLayout};

/// Depth of the reduction above which it is cut, so that a block of panels stays in the second-level cache.
const DEPTH: usize = 4096;
/// Depth of a cut block.
const CUT: usize = 1024;
/// Depth from which on a task takes fewer panels, which come from the second-level cache.
const DEEP: usize = 1024;
/// Depth of a block whose panels were levels, where rows are few.
const FEW: usize = 96;
/// Rows of the product that one task computes; all of twice as many, so that weights are read from memory once.
pub(super) const CHUNK: usize = 120;

pub(super) fn bind(c: &Contraction, layout: WeightLayout, small: bool, schedule: Option<&CpuSchedule>) -> Result<Box<dyn Bound>, String> {
    let filled = !c.out.view.is_empty() && !c.inner().contains(&0);
    let fast = c.dtype == DType::F32 && c.sum == DType::F32 && filled;
    if (fast || c.dtype == DType::I8 && filled)
        && layout == WeightLayout::Dense
        && let Some(bound) = channelwise::bind(c)
    {
        return Ok(bound);
    }
    let (blocking, filtering) = match schedule {
        Some(CpuSchedule::Product(blocking)) => (Some(*blocking), None),
        Some(CpuSchedule::Winograd(filtering)) => (None, Some(*filtering)),
        None => (None, None),
    };
    if fast
        && !small
        && blocking.is_none()
        && let Some(bound) = winograd::bind(c, layout, filtering)
    {
        return Ok(bound);
    }
    let depth = c.inner().iter().product();
    let form = match layout {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        WeightLayout::Panels16 if fast && schedule.is_none() => super::split::form(c),
        WeightLayout::Pairs16 => Some(pairs::form()),
        WeightLayout::Quads16 => Some(quads::form(depth)),
        _ => None,
    };
    if let Some(bound) = form.filter(|_| filled).and_then(|form| copied::bind(c, form, small)) {
        return Ok(Box::new(bound));
    }
    if let Some(bound) = fast.then(|| Product::new(c, layout, blocking)).flatten() {
        return Ok(Box::new(bound));
    }
    if layout != WeightLayout::Dense {
        return Err(format!("there is no product of {} by weights in {layout}", c.dtype));
    }
    generic::bind(c)
}

/// A product by packed weights whose rows are made by bands.
pub(super) fn by_rows(c: &Contraction, layout: WeightLayout) -> Option<impl ByRows + use<>> {
    Product::new(c, layout, None).filter(|product| matches!(product.columns, Columns::Packed))
}

/// Whether a schedule is one for a product, and of those that do the same the first.
pub(super) fn takes(c: &Contraction, layout: WeightLayout, schedule: &CpuSchedule) -> bool {
    let roles = c.roles();
    // Of values beyond an extent the least stands for all.
    let first = |family: usize, param: usize, value: u32, extent: usize| {
        let values = CpuSchedule::FAMILIES[family].1[param].1;
        let below = values.iter().take_while(|&&v| v < value).last();
        below.is_none_or(|&v| (v as usize) < extent)
    };
    match schedule {
        CpuSchedule::Product(b) => {
            let (m, k) = (roles.count(&roles.m), roles.count(&roles.k()));
            let panels = b.panels as usize <= Kernels::get().widest && first(0, 2, b.panels, roles.count(&roles.n).div_ceil(PANEL));
            panels && first(0, 0, b.cut, k.div_ceil(2)) && first(0, 1, b.chunk, m) && Product::new(c, layout, Some(*b)).is_some()
        }
        CpuSchedule::Winograd(f) => winograd::bind(c, layout, Some(*f)).is_some(),
    }
}

/// A part of the reduction: some runs of equal depth.
struct Block {
    tap: usize,
    taps: usize,
    start: usize,
    depth: usize,
}

/// How the first factor is read.
enum Rows {
    /// `offset[row][tap]`, then contiguous.
    Direct(Vec<i32>),
    /// `row[m] + k[k]`, copied into a tile first.
    Gathered(Vec<i64>, Vec<i64>),
}

/// How the second factor is read.
enum Columns {
    Packed,
    /// The same in binary16.
    Halves,
    /// As levels with scales: a block of panels becomes numbers before it is multiplied.
    Levels(levels::Numbers),
    /// Packed at every run: offsets by batch, reduction and column.
    Dynamic {
        batch: Vec<i64>,
        k: Vec<i64>,
        n: Vec<i64>,
        base: i64,
    },
}

struct Product {
    kernels: Kernels,
    batch: Vec<i64>,
    m: usize,
    n: usize,
    k: usize,
    taps: usize,
    rows: Rows,
    columns: Columns,
    blocks: Vec<Block>,
    /// Rows of a task, and panels of a tile, at most.
    chunk: usize,
    most: usize,
    epilogue: Epilogue,
    zeros: Vec<f32>,
}

/// The reduction as runs along which the first factor is contiguous: the loops over runs, and how long each is.
pub(super) fn runs(c: &Contraction, roles: &Roles) -> (Vec<usize>, usize) {
    let mut taps = roles.taps.clone();
    let mut depth = roles.channel.map_or(1, |l| c.space[l]);
    while let Some(&l) = taps.last().filter(|_| roles.channel.is_some()) {
        if c.space[l] > 1 && c.a.stride(l, &c.space) != Some(depth as i64) {
            break;
        }
        depth *= c.space[l];
        taps.pop();
    }
    (taps, depth)
}

impl Product {
    fn new(c: &Contraction, layout: WeightLayout, blocking: Option<Blocking>) -> Option<Self> {
        let roles: Roles = c.roles();
        let kernels = Kernels::get();
        let (m, n, k) = (roles.count(&roles.m), roles.count(&roles.n), roles.count(&roles.k()));
        let batch = roles.offsets(&c.a, &roles.batch)?;
        let (taps, depth) = runs(c, &roles);
        let gathered = || Some((roles.offsets(&c.a, &roles.m)?, roles.offsets(&c.a, &roles.k())?));
        let (rows, tap_count, depth) = match if roles.channel.is_none() && k > 1 { gathered() } else { None } {
            Some((m, k_offsets)) => {
                let base = c.a.base();
                (Rows::Gathered(m.into_iter().map(|o| o + base).collect(), k_offsets), 1, k)
            }
            // Without a contiguous loop that bounds leave alone, every element is a run of its own.
            None => (Rows::Direct(row_table(c, &roles.m, &taps)?), k / depth, depth),
        };
        let columns = match layout {
            WeightLayout::Panels16 => Columns::Packed,
            WeightLayout::Halves16 => Columns::Halves,
            _ if layout.levels().is_some() => Columns::Levels(levels::numbers(layout)),
            WeightLayout::Dense => Columns::Dynamic {
                batch: roles.offsets(&c.b, &roles.batch)?,
                k: roles.offsets(&c.b, &roles.k())?,
                n: roles.offsets(&c.b, &roles.n)?,
                base: c.b.base(),
            },
            _ => return None,
        };
        // Numbers that are read a few times only do not leave the first cache.
        let estimated = if matches!(columns, Columns::Levels(_)) && m <= ROWS { (FEW, FEW) } else { (DEPTH, CUT) };
        let cut = blocking.map_or(estimated, |b| (2 * b.cut as usize, b.cut as usize));
        let panels = kernels.panels_for(m) - usize::from(k > DEEP && m > ROWS && kernels.panels > 1);
        let most = blocking.map_or(panels, |b| (b.panels as usize).clamp(1, kernels.widest));
        let epilogue = Epilogue::new(c, &roles.batch, &roles.m, &roles.n)?;
        Some(Self {
            kernels,
            batch,
            m,
            n,
            k,
            taps: tap_count,
            rows,
            columns,
            blocks: blocks((tap_count, depth), cut),
            chunk: blocking.map_or(if m <= 2 * CHUNK { 2 * CHUNK } else { CHUNK }, |b| b.chunk as usize),
            most,
            epilogue,
            zeros: vec![0.0; depth],
        })
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Bytes of one thread's row pointers.
    fn pointer_bytes(&self) -> usize {
        (self.taps * size_of::<RowPointers>()).next_multiple_of(64)
    }

    /// Bytes of one thread's tiles.
    fn tile_bytes(&self) -> usize {
        let tiles = if self.blocks.len() > 1 { self.chunk.max(ROWS) } else { 1 };
        tiles * ROWS * STRIDE * 4
    }

    /// Bytes of one thread's numbers of a block of panels, and room to begin at a line of the cache: stores across lines are slow.
    fn number_bytes(&self) -> usize {
        let deepest = self.blocks.iter().map(|b| b.taps * b.depth).max().unwrap_or(0);
        if matches!(self.columns, Columns::Levels(_)) { deepest * self.most * PANEL * 4 + 64 } else { 0 }
    }

    fn gather_bytes(&self) -> usize {
        if matches!(self.rows, Rows::Gathered(..)) { (self.k * ROWS * 4).next_multiple_of(64) } else { 0 }
    }
}

/// Cuts a deep reduction: at a depth into blocks of a smaller one.
fn blocks((taps, depth): (usize, usize), (most, cut): (usize, usize)) -> Vec<Block> {
    if taps * depth <= most {
        return vec![Block { tap: 0, taps, start: 0, depth }];
    }
    if depth > cut {
        let pieces = depth.div_ceil(cut);
        let run = |tap: usize| {
            (0..pieces).map(move |i| part(depth, pieces, i)).map(move |r| Block { tap, taps: 1, start: r.start, depth: r.len() })
        };
        return (0..taps).flat_map(run).collect();
    }
    let pieces = (taps * depth).div_ceil(cut + depth).min(taps);
    (0..pieces).map(|i| part(taps, pieces, i)).map(|r| Block { tap: r.start, taps: r.len(), start: 0, depth }).collect()
}

impl Bound for Product {
    fn scratch(&self) -> (usize, usize) {
        let shared = match &self.columns {
            Columns::Packed | Columns::Halves | Columns::Levels(_) => 0,
            Columns::Dynamic { .. } => self.batch.len() * self.panels() * PANEL * self.k * 4,
        };
        (shared, self.pointer_bytes() + self.tile_bytes() + self.gather_bytes() + self.number_bytes() + self.epilogue.scratch())
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let panels = self.panels();
        let weights = match &self.columns {
            Columns::Packed | Columns::Halves | Columns::Levels(_) => args[1].cast::<f32>().cast_const(),
            Columns::Dynamic { batch, k, n, base } => {
                let (from, to) = (Shared(args[1].cast::<f32>()), Shared(cx.shared.cast::<f32>()));
                cx.pool.run(self.batch.len() * panels, &|task, _| unsafe {
                    let (b, p) = (task / panels, task % panels);
                    pack_panel(
                        from.get().offset((base + batch[b]) as isize),
                        k,
                        &n[p * PANEL..n.len().min(p * PANEL + PANEL)],
                        to.get().add(task * PANEL * self.k),
                    );
                });
                to.get().cast_const()
            }
        };
        let groups = panels.div_ceil(self.most);
        let widest = panels.div_ceil(groups);
        let rows = self.kernels.rows(widest);
        let mut chunks = self.m.div_ceil((self.chunk / rows).max(1) * rows);
        let enough = if cx.pool.threads() == 1 { 1 } else { 4 * cx.pool.threads() };
        while self.batch.len() * groups * chunks < enough && chunks * rows < self.m {
            chunks += 1;
        }
        let arguments = Arguments { args, weights };
        cx.pool.run(self.batch.len() * groups * chunks, &|task, thread| unsafe {
            let (b, chunk, group) = (task / (groups * chunks), task / groups % chunks, task % groups);
            // Chunks are whole tiles but for the last rows.
            let tiles = part(self.m.div_ceil(rows), chunks, chunk);
            let range = tiles.start * rows..(tiles.end * rows).min(self.m);
            self.chunk(&arguments, b, range, part(panels, groups, group), cx.own(thread));
        });
    }
}

impl ByRows for Product {
    fn rows(&self) -> (usize, usize) {
        (self.m, 1)
    }

    fn reach(&self, rows: &Range<usize>) -> Range<usize> {
        match &self.rows {
            Rows::Direct(table) => reach(&table[rows.start * self.taps..rows.end * self.taps], self.zeros.len()),
            Rows::Gathered(m, k) => {
                let [first, last] = [|o: &[i64]| o.iter().min().copied(), |o: &[i64]| o.iter().max().copied()];
                let ends = |of: fn(&[i64]) -> Option<i64>| Some((of(&m[rows.clone()])? + of(k)?) as usize);
                ends(first).zip(ends(last)).map_or(0..0, |(first, last)| first..last + 1)
            }
        }
    }

    fn own(&self) -> usize {
        self.scratch().1
    }

    unsafe fn some(&self, args: &[*mut u8], rows: Range<usize>, own: *mut u8) {
        let arguments = Arguments { args, weights: args[1].cast::<f32>().cast_const() };
        let groups = self.panels().div_ceil(self.most);
        let chunks = rows.len().div_ceil(self.chunk);
        for (chunk, group) in (0..chunks).flat_map(|chunk| (0..groups).map(move |group| (chunk, group))) {
            let some = part(rows.len(), chunks, chunk);
            let range = rows.start + some.start..rows.start + some.end;
            unsafe { self.chunk(&arguments, 0, range, part(self.panels(), groups, group), own) }
        }
    }
}

struct Arguments<'a> {
    args: &'a [*mut u8],
    weights: *const f32,
}
unsafe impl Sync for Arguments<'_> {}

impl Product {
    /// One task: a range of rows times a range of panels.
    unsafe fn chunk(&self, arguments: &Arguments<'_>, batch: usize, range: Range<usize>, panels: Range<usize>, own: *mut u8) {
        let width = panels.len();
        let pointers = own.cast::<RowPointers>();
        let tiles = own.wrapping_add(self.pointer_bytes()).cast::<f32>();
        let gathered = own.wrapping_add(self.pointer_bytes() + self.tile_bytes()).cast::<f32>();
        let numbers = own.wrapping_add(self.pointer_bytes() + self.tile_bytes() + self.gather_bytes()).cast::<f32>();
        let scratch = numbers.cast::<u8>().wrapping_add(self.number_bytes());
        let numbers = numbers.wrapping_byte_add(numbers.addr().wrapping_neg() % 64);
        let a = arguments.args[0].cast::<f32>().wrapping_offset(self.batch[batch] as isize).cast_const();
        let b = arguments.weights.wrapping_add((batch * self.panels() + panels.start) * self.k * PANEL);
        let column = panels.start * PANEL;
        let columns = (self.n - column).min(width * PANEL);
        let count = range.len().div_ceil(self.kernels.rows(width));
        let depth: usize = self.k / self.taps.max(1);
        // What is the same for every tile is found out once: tiles of a small depth take no longer than that.
        let half = matches!(self.columns, Columns::Halves);
        let whole = self.blocks.len() == 1 && !half;
        let direct = if whole { unsafe { self.epilogue.direct(batch, range.start, (column, columns), arguments.args) } } else { None };
        let mut known = (0, None);
        for (i, block) in self.blocks.iter().enumerate() {
            let last = i + 1 == self.blocks.len();
            let k = block.tap * depth + block.start;
            let (b, pitch) = match self.columns {
                Columns::Levels(to_numbers) => {
                    let rows = block.taps * block.depth;
                    for p in 0..width {
                        let first = batch * self.panels() + panels.start + p;
                        unsafe { to_numbers(arguments.args[1], (first, self.k), (k, rows), numbers.add(p * rows * PANEL)) };
                    }
                    (numbers.cast_const(), rows * PANEL)
                }
                Columns::Halves => {
                    let first = ((batch * self.panels() + panels.start) * self.k + k) * PANEL;
                    (arguments.args[1].cast::<u16>().wrapping_add(first).cast::<f32>().cast_const(), self.k * PANEL)
                }
                _ => (b.wrapping_add(k * PANEL), self.k * PANEL),
            };
            let following = match self.columns {
                _ if self.n * self.k < NEAR || range.len() < ROWS => None,
                Columns::Packed if i + 1 < self.blocks.len() => {
                    let after = &self.blocks[i + 1];
                    Some(b.wrapping_add((after.tap * depth + after.start - k) * PANEL))
                }
                // Of the next group; behind the last one whatever follows, which changes nothing.
                Columns::Packed => Some(b.wrapping_add((width * self.k - k) * PANEL)),
                _ => None,
            };
            for t in 0..count {
                let next = Next::of(following, width, pitch, (t, count));
                let rows = part(range.len(), count, t);
                let (row, height) = (range.start + rows.start, rows.len());
                let tile = if self.blocks.len() > 1 { tiles.wrapping_add(t * ROWS * STRIDE) } else { tiles };
                unsafe {
                    let step = self.point(a, row, height, block, pointers, gathered);
                    if let Some(to) = direct {
                        let kernel = match known {
                            (h, Some(kernel)) if h == height => kernel,
                            _ => self.kernels.direct(height, width),
                        };
                        known = (height, Some(kernel));
                        kernel(pointers, block.taps, block.depth, step, b, pitch, to.at_row(rows.start), next);
                        continue;
                    }
                    let kernel = if half { self.kernels.halves(height, width) } else { self.kernels.kernel(height, width) };
                    kernel(pointers, block.taps, block.depth, step, b, pitch, tile, i > 0, next);
                    if last {
                        self.epilogue.prepare(batch, (column, columns), arguments.args, scratch);
                        self.epilogue.store(tile, batch, row, height, column, columns, arguments.args, scratch);
                    }
                }
            }
        }
    }

    /// Where the rows of a tile begin for every run of a block; returns the step between neighbours.
    unsafe fn point(
        &self,
        a: *const f32,
        row: usize,
        height: usize,
        block: &Block,
        pointers: *mut RowPointers,
        gathered: *mut f32,
    ) -> usize {
        match &self.rows {
            Rows::Direct(table) => {
                let (a, first) = (a.wrapping_add(block.start), row * self.taps + block.tap);
                for (r, taps) in table[first..].chunks(self.taps).take(height).enumerate() {
                    for (t, &offset) in taps.iter().take(block.taps).enumerate() {
                        let from = if offset == OUTSIDE { self.zeros.as_ptr() } else { a.wrapping_offset(offset as isize) };
                        // SAFETY: a tile has so many rows, and the pointers those of all taps.
                        unsafe { pointers.add(t).cast::<*const f32>().add(r).write(from) };
                    }
                }
                1
            }
            Rows::Gathered(m, k) => {
                for (i, &k) in k[block.start..block.start + block.depth].iter().enumerate() {
                    for r in 0..height {
                        unsafe { gathered.add(i * ROWS + r).write(*a.offset((m[row + r] + k) as isize)) }
                    }
                }
                let list = unsafe { &mut *pointers };
                for (r, p) in list.iter_mut().enumerate() {
                    *p = gathered.wrapping_add(r);
                }
                ROWS
            }
        }
    }
}

const _: () = assert!(PANELS * PANEL == STRIDE);
