//! Weights in `f32` as sums of parts of 16 bits, for kernels whose tensor cores multiply those: made of the stored ones when a plan is loaded.

use crate::codec::{codec_struct, unit_enum};
use crate::halves;
use crate::number::bf16;
use crate::problem::PANEL;

unit_enum! {
    /// What numbers are taken apart into, the largest part first.
    Split {
        /// Three bfloat16, which together hold all 24 bits (G. Henry, P. T. P. Tang, A. Heinecke: Leveraging the bfloat16 Artificial Intelligence
        /// Datatype For Higher-Precision Computations, 2019).
        Bf16x3 = "bf16x3",
        /// Two binary16, which hold 22 bits: see [`halves`](crate::halves).
        F16x2 = "f16x2",
    }
}

impl Split {
    /// Parts of a number.
    pub const fn count(self) -> usize {
        match self {
            Self::Bf16x3 => 3,
            Self::F16x2 => 2,
        }
    }
}

/// The second factor of a contraction in parts, as `[batch][part][column][depth]`, made of what lies in panels. Depths are padded with zeros to
/// whole groups of [`Parts::GROUP`]. Halves are of columns that were scaled; behind them lie, as `f32`, what results are scaled back by, as
/// `[batch][column]` with columns padded to whole groups of [`Parts::SCALES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The number of the argument that is given in parts.
    pub argument: u32,
    /// What its numbers are taken apart into.
    pub split: Split,
    /// Matrices.
    pub batch: usize,
    /// Columns of each.
    pub columns: usize,
    /// Elements of a column.
    pub depth: usize,
}
codec_struct!(Parts { argument, split, batch, columns, depth });

impl Parts {
    /// Depths of a product of tensor cores. In which order they lie in it is free as long as both factors agree: see [`Parts::place`].
    pub const GROUP: usize = 16;

    /// Columns whose scales are stored together.
    pub const SCALES: usize = 64;

    /// Where a depth of a group lies. A lane of a warp holds two numbers of a row that are four apart where `f32` rows are read as matrices of
    /// half types: these are neighbours here.
    pub const fn place(depth: usize) -> usize {
        depth / 8 * 8 + depth % 4 * 2 + depth / 4 % 2
    }

    /// Elements of a part of a column.
    pub fn pitch(&self) -> usize {
        self.depth.saturating_add(Self::GROUP - 1) / Self::GROUP * Self::GROUP
    }

    /// Bytes of the panels that they are made of.
    pub fn given(&self) -> Option<usize> {
        let panels = self.columns.div_ceil(PANEL).checked_mul(self.batch)?;
        panels.checked_mul(self.depth)?.checked_mul(PANEL * size_of::<f32>())
    }

    /// Where scales begin, in bytes.
    pub fn scales_at(&self) -> Option<usize> {
        let lines = self.batch.checked_mul(self.split.count())?.checked_mul(self.columns)?;
        lines.checked_mul(self.pitch())?.checked_mul(size_of::<u16>())
    }

    /// Scales of a matrix.
    pub fn scales(&self) -> usize {
        match self.split {
            Split::Bf16x3 => 0,
            Split::F16x2 => self.columns.saturating_add(Self::SCALES - 1) / Self::SCALES * Self::SCALES,
        }
    }

    /// Bytes of all parts, and of their scales.
    pub fn bytes(&self) -> Option<usize> {
        let scales = self.batch.checked_mul(self.scales())?.checked_mul(size_of::<f32>())?;
        self.scales_at()?.checked_add(scales)
    }

    /// The parts of panels; `None` where those are too short.
    pub fn of(&self, panels: &[u8]) -> Option<Vec<u8>> {
        let (matrix, pitch) = (self.given()? / self.batch.max(1), self.pitch());
        let panels = panels.get(..self.given()?)?;
        let mut out = vec![0; self.bytes()?];
        if out.is_empty() {
            return Some(out);
        }
        let (part, (numbers, scales)) = (self.columns * pitch * size_of::<u16>(), out.split_at_mut(self.scales_at()?));
        let scales = scales.as_chunks_mut::<4>().0;
        for (matrix, (panels, numbers)) in panels.chunks_exact(matrix).zip(numbers.chunks_exact_mut(self.split.count() * part)).enumerate()
        {
            for (panel, first) in panels.chunks_exact(self.depth * PANEL * 4).zip((0..).step_by(PANEL)) {
                let rows = panel.as_chunks::<{ PANEL * 4 }>().0;
                let columns = first..self.columns.min(first + PANEL);
                let by = match self.split {
                    Split::Bf16x3 => [1.0; PANEL],
                    Split::F16x2 => {
                        let by = scales_of(rows);
                        for column in columns.clone() {
                            scales[matrix * self.scales() + column] = (1.0 / by[column - first]).to_le_bytes();
                        }
                        by
                    }
                };
                // A group of a column at a time, so that what is written lies together.
                for (rows, group) in rows.chunks(Self::GROUP).zip((0..).step_by(Self::GROUP)) {
                    for column in columns.clone() {
                        let mut own = [0.0; Self::GROUP];
                        for (depth, row) in rows.iter().enumerate() {
                            own[Self::place(depth)] = number(row, column - first);
                        }
                        let at = (column * pitch + group) * size_of::<u16>();
                        let mut put = |i: usize, words: &[u16]| {
                            let to = numbers[i * part + at..].as_chunks_mut::<2>().0;
                            to.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes());
                        };
                        match self.split {
                            Split::Bf16x3 => split(&own).iter().enumerate().for_each(|(i, words)| put(i, words)),
                            Split::F16x2 => {
                                let scaled = own.map(|x| x * by[column - first]);
                                halves::split(&scaled).iter().enumerate().for_each(|(i, words)| put(i, words));
                            }
                        }
                    }
                }
            }
        }
        Some(out)
    }
}

/// A number of a row of a panel.
fn number(row: &[u8; PANEL * 4], at: usize) -> f32 {
    f32::from_le_bytes([row[4 * at], row[4 * at + 1], row[4 * at + 2], row[4 * at + 3]])
}

/// What the columns of a panel are scaled by before they become halves.
fn scales_of(rows: &[[u8; PANEL * 4]]) -> [f32; PANEL] {
    let mut largest = [0.0f32; PANEL];
    for row in rows {
        for (at, most) in largest.iter_mut().enumerate() {
            let x = number(row, at).abs();
            // What is not finite has no part in it.
            *most = if x < f32::INFINITY && x > *most { x } else { *most };
        }
    }
    largest.map(halves::scale)
}

/// The parts of numbers, by part.
fn split(numbers: &[f32; Parts::GROUP]) -> [[u16; Parts::GROUP]; 3] {
    /// From here on a number may round to infinity.
    const LARGE: u32 = 0x7f00_0000;
    let mut parts = [[0; Parts::GROUP]; 3];
    if numbers.iter().any(|x| x.to_bits() & 0x7fff_ffff >= LARGE) {
        for (i, &x) in numbers.iter().enumerate() {
            parts.iter_mut().zip(split_any(x)).for_each(|(part, bits)| part[i] = bits);
        }
        return parts;
    }
    // Without branches, for vectors.
    let mut rest = *numbers;
    for part in &mut parts {
        for (word, x) in part.iter_mut().zip(&mut rest) {
            let bits = x.to_bits();
            let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
            *word = (nearest >> 16) as u16;
            *x -= f32::from_bits(nearest);
        }
    }
    parts
}

/// The parts of a number. Each is rounded to the nearest, so that what is left is small; cut off where that would be infinite. What is not
/// finite is its own first part, so that the sum is the number in every case.
fn split_any(x: f32) -> [u16; 3] {
    let mut rest = x;
    [(); 3].map(|()| {
        let cut = (rest.to_bits() >> 16) as u16;
        let nearest = bf16(rest);
        let finite = f32::from_bits(u32::from(nearest) << 16).is_finite();
        let part = if finite || !rest.is_finite() { nearest } else { cut };
        let taken = f32::from_bits(u32::from(part) << 16);
        rest = if taken.is_finite() { rest - taken } else { 0.0 };
        part
    })
}

#[cfg(test)]
mod tests {
    use super::{PANEL, Parts, Split, split, split_any};
    use crate::halves;

    fn sum(parts: [u16; 3]) -> f32 {
        parts.iter().rev().fold(0.0, |sum, &p| sum + f32::from_bits(u32::from(p) << 16))
    }

    #[test]
    fn parts_hold_every_bit() {
        let given = [0.0, -0.0, 1.0, 0.1, -std::f32::consts::PI, f32::MAX, f32::MIN, 1e-30, f32::INFINITY, f32::NEG_INFINITY];
        for x in given.into_iter().chain((0..10_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9) & 0xbfff_ffff | 0x2000_0000))) {
            assert!(sum(split_any(x)) == x, "{x:e}: {:x?}", split_any(x));
            // Beside others it has the same parts.
            let mut all = [0.25; Parts::GROUP];
            all[5] = x;
            assert_eq!(split(&all).map(|part| part[5]), split_any(x), "{x:e}");
        }
        assert!(sum(split_any(f32::NAN)).is_nan());
    }

    #[test]
    fn panels_become_columns() {
        let (batch, columns, depth) = (2, 19, 21);
        let number = |b: usize, n: usize, d: usize| 0.37 * (1 + b * 1000 + n * 31 + d) as f32;
        let mut panels: Vec<u8> = vec![];
        for b in 0..batch {
            for first in (0..columns).step_by(PANEL) {
                for d in 0..depth {
                    for n in first..first + PANEL {
                        panels.extend(if n < columns { number(b, n, d) } else { 7.0 }.to_le_bytes());
                    }
                }
            }
        }
        for &form in Split::ALL {
            let parts = Parts { argument: 1, split: form, batch, columns, depth };
            assert_eq!(parts.given(), Some(panels.len()));
            let out = parts.of(&panels).expect("whole panels");
            assert_eq!(parts.bytes(), Some(out.len()));
            let at = |i: usize| u16::from_le_bytes([out[2 * i], out[2 * i + 1]]);
            let scale = |b: usize, n: usize| {
                let at = parts.scales_at().expect("few") + 4 * (b * parts.scales() + n);
                f32::from_le_bytes([0, 1, 2, 3].map(|i| out[at + i]))
            };
            for (b, n) in (0..batch).flat_map(|b| (0..columns).map(move |n| (b, n))) {
                for d in 0..parts.pitch() {
                    let place = d / 16 * 16 + Parts::place(d % 16);
                    let part = |p: usize| at(((b * form.count() + p) * columns + n) * parts.pitch() + place);
                    let (found, error) = match form {
                        Split::Bf16x3 => (sum([0, 1, 2].map(part)), 0.0),
                        Split::F16x2 => (halves::sum([0, 1].map(part)) * scale(b, n), 1.0 / f32::from(1u16 << 11) / f32::from(1u16 << 11)),
                    };
                    let expected = if d < depth { number(b, n, d) } else { 0.0 };
                    assert!((found - expected).abs() <= expected.abs() * error, "{form} {b} {n} {d}: {found} {expected}");
                }
            }
            assert_eq!(parts.of(&panels[1..]), None);
            assert_eq!(Parts { batch: 0, ..parts }.of(&[]), Some(vec![]));
            assert_eq!(Parts { depth: usize::MAX, ..parts }.bytes(), None);
        }
    }
}
