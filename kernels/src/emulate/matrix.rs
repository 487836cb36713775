//! What whole warps do: loads of matrices and products on tensor cores.

use super::Cluster;
use crate::layout::{Described, PERIOD, ROW, Swizzle, described};
use crate::ptx::{Factor, GroupRows, Half, MemTy, Operand, Reg, Stmt};
use half::{bf16, f16};

fn widened(half: Half, bits: u16) -> f32 {
    match half {
        Half::F16 => f16::from_bits(bits).to_f32(),
        Half::Bf16 => bf16::from_bits(bits).to_f32(),
    }
}

/// The lowest bits are not read.
fn truncated(bits: u32) -> f32 {
    f32::from_bits(bits & !0x1fff)
}

impl Cluster<'_, '_> {
    /// A matrix instruction of the warp that begins at thread `first`.
    pub(super) fn matrix(&mut self, stmt: &Stmt, first: usize) -> Result<(), String> {
        match stmt {
            Stmt::LoadMatrix { to, address, offset, transposed } => {
                for (i, r) in to.iter().enumerate() {
                    // The eight rows of this register's matrix as 32-bit words.
                    let mut rows = [[0u32; 4]; 8];
                    for (row, words) in rows.iter_mut().enumerate() {
                        let at = self.address(*address, *offset, first + 8 * i + row);
                        for (w, word) in words.iter_mut().enumerate() {
                            let bytes = self.blocks[self.now].shared.read(at, w, MemTy::B32, 4, first + 4 * row + w)?;
                            *word = u64::from_le_bytes(bytes) as u32;
                        }
                    }
                    let element = |row: usize, column: usize| rows[row][column / 2] >> (16 * (column % 2)) & 0xffff;
                    for lane in 0..32 {
                        let (g, t) = (lane / 4, lane % 4);
                        let word = if *transposed { element(2 * t, g) | element(2 * t + 1, g) << 16 } else { rows[g][t] };
                        self.set(*r, first + lane, u64::from(word));
                    }
                }
            }
            Stmt::Mma { factor: Factor::Bytes, sum, a, b } => {
                let (mut left, mut right) = (vec![[0i64; 32]; 16], vec![[0i64; 32]; 8]);
                for lane in 0..32 {
                    let (g, t) = (lane / 4, lane % 4);
                    let bytes = |r: Reg| (self.value(Operand::Reg(r), first + lane) as u32).to_le_bytes().map(|b| i64::from(b as i8));
                    for (i, r) in a.iter().enumerate() {
                        left[g + 8 * (i % 2)][4 * (t + 4 * (i / 2))..][..4].copy_from_slice(&bytes(*r));
                    }
                    for (i, r) in b.iter().enumerate() {
                        right[g][4 * (t + 4 * i)..][..4].copy_from_slice(&bytes(*r));
                    }
                }
                for lane in 0..32 {
                    let (g, t) = (lane / 4, lane % 4);
                    for (i, r) in sum.iter().enumerate() {
                        let (row, column) = (&left[g + 8 * (i / 2)], &right[2 * t + i % 2]);
                        let start = self.value(Operand::Reg(*r), first + lane) as u32 as i32;
                        let total = row.iter().zip(column).map(|(x, y)| x * y).sum::<i64>();
                        self.set(*r, first + lane, u64::from(start.wrapping_add(total as i32) as u32));
                    }
                }
            }
            Stmt::Mma { factor, sum, a, b } => {
                let depth = factor.depth() as usize;
                let (mut left, mut right) = (vec![[0f32; 16]; 16], vec![[0f32; 16]; 8]);
                for lane in 0..32 {
                    let (g, t) = (lane / 4, lane % 4);
                    for (i, r) in a.iter().enumerate() {
                        self.unpack(*factor, *r, first + lane, t + 4 * (i / 2), &mut left[g + 8 * (i % 2)]);
                    }
                    for (i, r) in b.iter().enumerate() {
                        self.unpack(*factor, *r, first + lane, t + 4 * i, &mut right[g]);
                    }
                }
                for lane in 0..32 {
                    let (g, t) = (lane / 4, lane % 4);
                    for (i, r) in sum.iter().enumerate() {
                        let (row, column) = (&left[g + 8 * (i / 2)], &right[2 * t + i % 2]);
                        let start = f64::from(f32::from_bits(self.value(Operand::Reg(*r), first + lane) as u32));
                        // Products are exact; hardware adds them with at least the precision of `f32`.
                        let total = (0..depth).fold(start, |s, k| s + f64::from(row[k]) * f64::from(column[k]));
                        self.set(*r, first + lane, u64::from((total as f32).to_bits()));
                    }
                }
            }
            Stmt::GroupMma { factor, sums, adds, a, b, across } => {
                // Each of the four warps adds to its own rows.
                let left = match a {
                    GroupRows::Shared(a) => self.lines(*factor, *a, first, (first / 32 % 4 * 16, 16))?,
                    GroupRows::Registers(a) => {
                        let mut left = vec![[0f32; 16]; 16];
                        for (lane, (i, r)) in (0..32).flat_map(|lane| a.iter().enumerate().map(move |a| (lane, a))) {
                            self.unpack(*factor, *r, first + lane, lane % 4 + 4 * (i / 2), &mut left[lane / 4 + 8 * (i % 2)]);
                        }
                        left.iter().map(|row| row[..factor.depth() as usize].to_vec()).collect()
                    }
                };
                let columns = (0, sums.len() * 2);
                let right = if *across { self.columns(*factor, *b, first, columns.1)? } else { self.lines(*factor, *b, first, columns)? };
                for lane in 0..32 {
                    let (g, t) = (lane / 4, lane % 4);
                    for (i, r) in sums.iter().enumerate() {
                        let (row, column) = (&left[g + 8 * (i / 2 % 2)], &right[8 * (i / 4) + 2 * t + i % 2]);
                        let held = f32::from_bits(self.value(Operand::Reg(*r), first + lane) as u32);
                        let start = if *adds { f64::from(held) } else { 0.0 };
                        let total = row.iter().zip(column).fold(start, |s, (x, y)| s + f64::from(*x) * f64::from(*y));
                        self.set(*r, first + lane, u64::from((total as f32).to_bits()));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The elements in 32 bytes of depth of some lines of a factor in shared memory, by the descriptor of the warp that begins at thread `first`.
    fn lines(&mut self, factor: Factor, r: Reg, first: usize, (from, count): (usize, usize)) -> Result<Vec<Vec<f32>>, String> {
        let of = self.described(r, first)?;
        let mut lines = vec![];
        for line in from..from + count {
            let mut elements = vec![];
            for chunk in 0..2 {
                let row = of.address + line as u32 / 8 * of.eight;
                let place = match of.exchanged {
                    true => Swizzle::of_rows(ROW).apply(row + line as u32 % 8 * ROW + 16 * chunk),
                    false => row + line as u32 % 8 * 16 + chunk * of.apart,
                };
                let bytes = self.blocks[self.now].shared.product(u64::from(place), 16, first / 32)?;
                match factor {
                    Factor::Half(h) => elements.extend(bytes.as_chunks().0.iter().map(|b| widened(h, u16::from_le_bytes(*b)))),
                    Factor::Tf32 => elements.extend(bytes.as_chunks().0.iter().map(|b| truncated(u32::from_le_bytes(*b)))),
                    Factor::Bytes => return Err("products of bytes by warpgroups are not emulated".to_owned()),
                }
            }
            lines.push(elements);
        }
        Ok(lines)
    }

    /// The same for so many columns that lie side by side, a depth to a row.
    fn columns(&mut self, factor: Factor, r: Reg, first: usize, count: usize) -> Result<Vec<Vec<f32>>, String> {
        let Described { address: start, apart, eight, exchanged } = self.described(r, first)?;
        let Factor::Half(half) = factor else { return Err("columns of no half type lie across the depth".to_owned()) };
        if eight != PERIOD || !exchanged {
            return Err("rows of columns that lie across the depth are no neighbours".to_owned());
        }
        let mut columns = vec![vec![]; count];
        for depth in 0..factor.depth() {
            for (i, eight) in (0..).zip(columns.chunks_mut(8)) {
                let at = start + i / 8 * apart + depth * ROW + i % 8 * 16;
                let bytes = self.blocks[self.now].shared.product(u64::from(Swizzle::of_rows(ROW).apply(at)), 16, first / 32)?;
                let elements = bytes.as_chunks().0.iter().map(|b| widened(half, u16::from_le_bytes(*b)));
                eight.iter_mut().zip(elements).for_each(|(column, x)| column.push(x));
            }
        }
        Ok(columns)
    }

    /// What a descriptor says, which all lanes of a warp give alike.
    fn described(&self, r: Reg, first: usize) -> Result<Described, String> {
        let bits = self.value(Operand::Reg(r), first);
        if (1..32).any(|lane| self.value(Operand::Reg(r), first + lane) != bits) {
            return Err("lanes give different descriptors".to_owned());
        }
        described(bits).ok_or_else(|| format!("{bits:x} describes no factor"))
    }

    /// The elements of a register, at word `w` of a row of depth.
    fn unpack(&self, factor: Factor, r: Reg, thread: usize, w: usize, row: &mut [f32; 16]) {
        let bits = self.value(Operand::Reg(r), thread) as u32;
        match factor {
            Factor::Tf32 => row[w] = truncated(bits),
            // See [`Stmt::Mma`].
            Factor::Bytes => {}
            Factor::Half(h) => {
                for (i, half) in [bits as u16, (bits >> 16) as u16].into_iter().enumerate() {
                    row[2 * w + i] = widened(h, half);
                }
            }
        }
    }
}
