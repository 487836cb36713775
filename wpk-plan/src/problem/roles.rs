//! The parts that the loops of a contraction play in a matrix product.

use super::{Access, AccessDim, Affine, Contraction};
use crate::number::bf16;

/// Columns of a packed panel.
pub const PANEL: usize = 16;

/// Depth that levels in panels share a scale for.
pub const BLOCK: usize = 32;

/// Loops by the tensors they move: `out[batch, m, n] = sum over k of a[batch, m, k] * b[batch, k, n]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Output loops of both factors.
    pub batch: Vec<usize>,
    /// Output loops of the first factor alone, or of none; a loop of extent 1 moves nothing.
    pub m: Vec<usize>,
    /// Output loops of the second factor alone.
    pub n: Vec<usize>,
    /// Reduction loops without `channel`.
    pub taps: Vec<usize>,
    /// The longest reduction loop along which the first factor is contiguous.
    pub channel: Option<usize>,
    extents: Vec<usize>,
}

impl Contraction {
    /// The dimension of the first factor that a loop alone walks beyond the end of, where there is one.
    pub fn lacking(&self, loop_: usize) -> Option<&AccessDim> {
        let whole = |d: &&AccessDim| d.index == Affine::of(loop_) && d.extent < self.space[loop_];
        self.a.dims.iter().find(whole)
    }

    /// Which part each loop plays.
    pub fn roles(&self) -> Roles {
        let inner = self.outer..self.space.len();
        // Depths that the first factor lacks are zeros: it is read channel by channel, which come last as they are.
        let lacks = inner.clone().any(|l| self.lacking(l).is_some());
        let channel =
            inner.filter(|&l| !lacks && self.a.stride(l, &self.space) == Some(1) && self.space[l] > 1).max_by_key(|&l| self.space[l]);
        let moves = |access: &Access, l: usize| self.space[l] > 1 && access.uses(l);
        let outer = |a: bool, b: bool| (0..self.outer).filter(move |&l| moves(&self.a, l) == a && moves(&self.b, l) == b);
        let mut m: Vec<usize> = outer(true, false).chain(outer(false, false)).collect();
        m.sort_unstable();
        Roles {
            batch: outer(true, true).collect(),
            m,
            n: outer(false, true).collect(),
            taps: (self.outer..self.space.len()).filter(|&l| Some(l) != channel).collect(),
            channel,
            extents: self.space.clone(),
        }
    }

    /// The parts of the loops of a depthwise convolution whose channels lie together in the input and in the weights, which are by tap.
    pub fn channelwise(&self) -> Option<Roles> {
        let roles = self.roles();
        let last = *roles.batch.last()?;
        if !roles.n.is_empty() || roles.channel.is_some() || self.b.base() != 0 || self.space[last] < 2 {
            return None;
        }
        let together = |offsets: Vec<i64>| offsets.iter().enumerate().all(|(i, &o)| o == i as i64);
        let by_tap = [&roles.taps[..], &roles.batch].concat();
        (together(roles.offsets(&self.a, &roles.batch)?) && together(roles.offsets(&self.b, &by_tap)?)).then_some(roles)
    }

    /// Elements from a row of results to the next, where rows lie one behind the other from the first element on and the results of a row together.
    pub fn rows_apart(&self) -> Option<usize> {
        let (roles, view) = (self.roles(), &self.out.view);
        let columns = if roles.n.is_empty() { &roles.batch } else { &roles.n };
        // What each of the last loop that moves adds, where the others continue it.
        let step = |loops: &[usize]| {
            let moving: Vec<usize> = loops.iter().copied().filter(|&l| self.space[l] > 1).collect();
            let continues = |pair: &[usize]| view.strides[pair[0]] == view.strides[pair[1]] * self.space[pair[1]] as i64;
            moving.windows(2).all(continues).then(|| moving.last().map(|&l| view.strides[l]))
        };
        let (across, down) = (step(columns)?.unwrap_or(1), step(&roles.m)?.map_or(Some(1), |d| usize::try_from(d).ok())?);
        let count = roles.count(columns);
        let whole = roles.count(&roles.batch) == 1 || roles.n.is_empty();
        let apart = down.max(count);
        (view.offset == 0 && across == 1 && whole && (down == apart || roles.count(&roles.m) == 1)).then_some(apart)
    }
}

impl Roles {
    /// The product of some loops' extents.
    pub fn count(&self, loops: &[usize]) -> usize {
        loops.iter().map(|&l| self.extents[l]).product()
    }

    /// The reduction loops in packed order: taps, then the channel.
    pub fn k(&self) -> Vec<usize> {
        self.taps.iter().copied().chain(self.channel).collect()
    }

    /// Elements of the packed second factor.
    pub fn packed_len(&self) -> usize {
        self.count(&self.batch) * self.count(&self.n).div_ceil(PANEL) * PANEL * self.count(&self.k())
    }

    /// Elements of a column of `size` bytes each where columns are stored one by one: a multiple of 16 bytes.
    pub fn column_len(&self, size: usize) -> usize {
        self.count(&self.k()).next_multiple_of(16 / size)
    }

    /// The second factor as `[batch][n][k]`, its elements as bytes, zero-padded; `None` where its indices need bounds.
    pub fn columns(&self, access: &Access, data: &[u8], size: usize) -> Option<Vec<u8>> {
        let batch = self.offsets(access, &self.batch)?;
        let k = self.offsets(access, &self.k())?;
        let n = self.offsets(access, &self.n)?;
        let column = self.column_len(size) * size;
        let mut packed = Vec::with_capacity(batch.len() * n.len() * column);
        for b in batch {
            for n in &n {
                let end = packed.len() + column;
                for k in &k {
                    let at = (access.base() + b + n + k) as usize * size;
                    packed.extend_from_slice(data.get(at..at + size)?);
                }
                packed.resize(end, 0);
            }
        }
        Some(packed)
    }

    /// The offset that each point of `loops`, in row-major order, adds to an access; `None` where a bound interrupts it.
    pub fn offsets(&self, access: &Access, loops: &[usize]) -> Option<Vec<i64>> {
        let mut offsets = vec![0];
        for &l in loops {
            let stride = access.stride(l, &self.extents)?;
            offsets = offsets.iter().flat_map(|&o| (0..self.extents[l] as i64).map(move |i| o + i * stride)).collect();
        }
        Some(offsets)
    }

    /// The second factor in bfloat16 as `[batch][n / 16][k / 2][16][2]`, zero-padded; `None` where its indices need bounds, or channels
    /// are no pairs.
    pub fn pairs(&self, access: &Access, data: &[f32]) -> Option<Vec<u16>> {
        self.channel.filter(|&l| self.extents[l].is_multiple_of(2))?;
        let packed = self.pack(access, data)?;
        let pair = |two: &[f32]| (0..PANEL).flat_map(|l| [two[l], two[PANEL + l]]).map(bf16).collect::<Vec<u16>>();
        Some(packed.chunks(2 * PANEL).flat_map(pair).collect())
    }

    /// Bytes of a panel of sixteen columns of `i8` in quads, with the sixteen numbers before them.
    pub fn quads_panel(&self) -> usize {
        PANEL * (4 + self.count(&self.k()).next_multiple_of(4))
    }

    /// Bytes of the second factor in quads.
    pub fn quads_len(&self) -> usize {
        self.count(&self.batch).saturating_mul(self.count(&self.n).div_ceil(PANEL)).saturating_mul(self.quads_panel())
    }

    /// The second factor, of `i8`, as panels `[batch][n / 16]`: for each of sixteen columns -128 times its sum as `i32`, which makes up for
    /// a first factor read as `u8` with 128 added, then `[k / 4][16][4]`, zero-padded. `None` where its indices need bounds.
    pub fn quads(&self, access: &Access, data: &[u8]) -> Option<Vec<u8>> {
        let batch = self.offsets(access, &self.batch)?;
        let k = self.offsets(access, &self.k())?;
        let n = self.offsets(access, &self.n)?;
        let mut packed = Vec::with_capacity(self.quads_len());
        for b in batch {
            for columns in n.chunks(PANEL) {
                let mut panel = vec![0u8; self.quads_panel() - 4 * PANEL];
                for (j, &n) in columns.iter().enumerate() {
                    let mut sum = 0i32;
                    for (i, &k) in k.iter().enumerate() {
                        let x = *data.get((access.base() + b + n + k) as usize)?;
                        panel[i / 4 * 4 * PANEL + 4 * j + i % 4] = x;
                        sum = sum.wrapping_add(i32::from(x as i8));
                    }
                    packed.extend_from_slice(&sum.wrapping_mul(-128).to_le_bytes());
                }
                packed.resize(packed.len() + 4 * (PANEL - columns.len()), 0);
                packed.extend_from_slice(&panel);
            }
        }
        Some(packed)
    }

    /// Bytes of a panel of sixteen columns of levels of so many bits, with the scales before them.
    pub fn levels_panel(&self, bits: usize) -> usize {
        let k = self.count(&self.k());
        (k.div_ceil(BLOCK) * PANEL * 4).saturating_add(k.saturating_mul(PANEL * bits / 8))
    }

    /// Bytes of the second factor in levels.
    pub fn levels_len(&self, bits: usize) -> usize {
        self.count(&self.batch).saturating_mul(self.count(&self.n).div_ceil(PANEL)).saturating_mul(self.levels_panel(bits))
    }

    /// The second factor, levels times scales, as panels `[batch][n / 16]`: scales `[k / 32][16]` in `f32`, then levels `[k][16]` in `i8`, or of
    /// four bits, where the eight bytes of a row hold its first columns in their low halves and the others in their high ones. `None` where
    /// its indices need bounds, levels do not fit, or scales differ within a block.
    pub fn levels(&self, access: &Access, levels: &[f32], scales: &[f32], bits: usize) -> Option<Vec<u8>> {
        let (levels, scales) = (self.pack(access, levels)?, self.pack(access, scales)?);
        let (k, most) = (self.count(&self.k()), (1 << (bits - 1)) as f32);
        let mut packed = Vec::with_capacity(self.levels_len(bits));
        for (levels, scales) in levels.chunks(k * PANEL).zip(scales.chunks(k * PANEL)) {
            for block in scales.chunks(BLOCK * PANEL) {
                let (first, rows) = block.split_at(PANEL);
                rows.chunks(PANEL).all(|row| row == first).then_some(())?;
                packed.extend(first.iter().flat_map(|s| s.to_le_bytes()));
            }
            levels.iter().all(|&l| l.fract() == 0.0 && (-most..most).contains(&l)).then_some(())?;
            for row in levels.chunks(PANEL) {
                let byte = |i: usize| row[i] as i8 as u8;
                match bits {
                    8 => packed.extend((0..PANEL).map(byte)),
                    _ => packed.extend((0..PANEL / 2).map(|i| byte(i) & 15 | byte(i + PANEL / 2) << 4)),
                }
            }
        }
        Some(packed)
    }

    /// The second factor as `[batch][n / 16][k][16]`, zero-padded; `None` where its indices need bounds.
    pub fn pack(&self, access: &Access, data: &[f32]) -> Option<Vec<f32>> {
        let batch = self.offsets(access, &self.batch)?;
        let k = self.offsets(access, &self.k())?;
        let n = self.offsets(access, &self.n)?;
        let mut packed = Vec::with_capacity(self.packed_len());
        for b in batch {
            for panel in n.chunks(PANEL) {
                let base = panel[0];
                let contiguous = panel.len() == PANEL && panel.iter().enumerate().all(|(i, &o)| o == base + i as i64);
                for &k in &k {
                    let at = access.base() + b + k;
                    if contiguous {
                        let from = (at + base) as usize;
                        packed.extend_from_slice(data.get(from..from + PANEL)?);
                    } else {
                        for &o in panel {
                            packed.push(*data.get((at + o) as usize)?);
                        }
                        packed.resize(packed.len() + PANEL - panel.len(), 0.0);
                    }
                }
            }
        }
        Some(packed)
    }
}
