//! Weights in `f32` as sums of three parts in bfloat16, for kernels whose tensor cores multiply those: made of the stored ones when a plan is
//! loaded.

use crate::codec::codec_struct;
use crate::number::bf16;
use crate::problem::PANEL;

/// The second factor of a contraction in parts (G. Henry, P. T. P. Tang, A. Heinecke: Leveraging the bfloat16 Artificial Intelligence Datatype
/// For Higher-Precision Computations, 2019), as `[batch][part][column][depth]`, made of what lies in panels. Depths are padded with zeros to
/// whole groups of [`Parts::GROUP`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The number of the argument that is given in parts.
    pub argument: u32,
    /// Matrices.
    pub batch: usize,
    /// Columns of each.
    pub columns: usize,
    /// Elements of a column.
    pub depth: usize,
    /// Where they are not neighbours among the parts: the loops over them, slowest first, as how many there are of each and how far apart they lie.
    /// Between them are zeros.
    pub loops: Vec<(usize, usize)>,
}
codec_struct!(Parts { argument, batch, columns, depth, loops });

/// How many times as far as its elements a column may reach.
const SPARSE: usize = 16;

impl Parts {
    /// Parts of a number, the largest first; together they hold its 24 bits.
    pub const COUNT: usize = 3;

    /// Depths of a product of tensor cores. In which order they lie in it is free as long as both factors agree: see [`Parts::place`].
    pub const GROUP: usize = 16;

    /// Where a depth of a group lies. A lane of a warp holds two numbers of a row that are four apart where `f32` rows are read as matrices of
    /// half types: these are neighbours here.
    pub const fn place(depth: usize) -> usize {
        depth / 8 * 8 + depth % 4 * 2 + depth / 4 % 2
    }

    /// Elements of a part of a column.
    pub fn pitch(&self) -> usize {
        let last = self.loops.iter().map(|&(count, apart)| count.saturating_sub(1).saturating_mul(apart)).fold(0, usize::saturating_add);
        let all = if self.loops.is_empty() { self.depth } else { last.saturating_add(1) };
        all.saturating_add(Self::GROUP - 1) / Self::GROUP * Self::GROUP
    }

    /// Which element of a column lies where, before [`Parts::place`]; none where zeros are. `None` where loops are over other elements.
    fn elements(&self) -> Option<Vec<Option<usize>>> {
        let mut from = vec![None; self.pitch()];
        let counts = self.loops.iter().try_fold(1usize, |all, l| all.checked_mul(l.0))?;
        if !self.loops.is_empty() && counts != self.depth {
            return None;
        }
        for element in 0..self.depth {
            let (mut rest, mut at) = (element, if self.loops.is_empty() { element } else { 0 });
            for &(count, apart) in self.loops.iter().rev() {
                at += rest % count * apart;
                rest /= count;
            }
            *from.get_mut(at)? = Some(element);
        }
        Some(from)
    }

    /// Bytes of the panels that they are made of.
    pub fn given(&self) -> Option<usize> {
        let panels = self.columns.div_ceil(PANEL).checked_mul(self.batch)?;
        panels.checked_mul(self.depth)?.checked_mul(PANEL * size_of::<f32>())
    }

    /// Bytes of all parts; `None` where they are too many for what they are made of.
    pub fn bytes(&self) -> Option<usize> {
        if self.pitch() > self.depth.saturating_mul(SPARSE).saturating_add(Self::GROUP) {
            return None;
        }
        let lines = self.batch.checked_mul(Self::COUNT)?.checked_mul(self.columns)?;
        lines.checked_mul(self.pitch())?.checked_mul(size_of::<u16>())
    }

    /// The parts of panels; `None` where those are too short.
    pub fn of(&self, panels: &[u8]) -> Option<Vec<u8>> {
        let (matrix, pitch) = (self.given()? / self.batch.max(1), self.pitch());
        let elements = self.elements()?;
        let panels = panels.get(..self.given()?)?;
        let mut out = vec![0; self.bytes()?];
        if out.is_empty() {
            return Some(out);
        }
        let part = self.columns * pitch * size_of::<u16>();
        for (panels, out) in panels.chunks_exact(matrix).zip(out.chunks_exact_mut(Self::COUNT * part)) {
            for (panel, first) in panels.chunks_exact(self.depth * PANEL * 4).zip((0..).step_by(PANEL)) {
                let rows = panel.as_chunks::<{ PANEL * 4 }>().0;
                // A group of a column at a time, so that what is written lies together.
                for (elements, group) in elements.chunks(Self::GROUP).zip((0..).step_by(Self::GROUP)) {
                    for column in first..self.columns.min(first + PANEL) {
                        let mut numbers = [0.0; Self::GROUP];
                        for (depth, row) in elements.iter().enumerate().filter_map(|(depth, &from)| Some((depth, &rows[from?]))) {
                            let at = 4 * (column - first);
                            numbers[Self::place(depth)] = f32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
                        }
                        let at = (column * pitch + group) * size_of::<u16>();
                        for (i, words) in split(&numbers).iter().enumerate() {
                            let to = out[i * part + at..].as_chunks_mut::<2>().0;
                            to.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes());
                        }
                    }
                }
            }
        }
        Some(out)
    }
}

/// The parts of numbers, by part.
fn split(numbers: &[f32; Parts::GROUP]) -> [[u16; Parts::GROUP]; Parts::COUNT] {
    /// From here on a number may round to infinity.
    const LARGE: u32 = 0x7f00_0000;
    let mut parts = [[0; Parts::GROUP]; Parts::COUNT];
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
fn split_any(x: f32) -> [u16; Parts::COUNT] {
    let mut rest = x;
    [(); Parts::COUNT].map(|()| {
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
    use super::{PANEL, Parts, split, split_any};

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
        for loops in [vec![], vec![(7, 1), (3, 7)], vec![(3, 8), (7, 1)], vec![(7, 4), (3, 1)]] {
            panels_become(&Parts { argument: 1, batch, columns, depth, loops });
        }
        let parts = Parts { argument: 1, batch, columns, depth, loops: vec![(3, 8), (6, 1)] };
        assert_eq!(parts.of(&vec![0; parts.given().unwrap_or(0)]), None);
    }

    fn panels_become(parts: &Parts) {
        let (batch, columns, depth) = (parts.batch, parts.columns, parts.depth);
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
        assert_eq!(parts.given(), Some(panels.len()));
        let out = parts.of(&panels).expect("whole panels");
        assert_eq!(parts.bytes(), Some(out.len()));
        let at = |i: usize| u16::from_le_bytes([out[2 * i], out[2 * i + 1]]);
        for b in 0..batch {
            for n in 0..columns {
                for d in 0..depth {
                    let (mut rest, mut to) = (d, if parts.loops.is_empty() { d } else { 0 });
                    for (count, apart) in parts.loops.iter().rev() {
                        (rest, to) = (rest / count, to + rest % count * apart);
                    }
                    let place = to / 16 * 16 + Parts::place(to % 16);
                    let found = sum([0, 1, 2].map(|p| at(((b * 3 + p) * columns + n) * parts.pitch() + place)));
                    assert!(found == number(b, n, d), "{b} {n} {d}: {found}");
                }
                let others =
                    (0..parts.pitch()).filter(|i| [0, 1, 2].iter().any(|p| at(((b * 3 + p) * columns + n) * parts.pitch() + i) != 0));
                assert_eq!(others.count(), depth, "zeros lie between");
            }
        }
        assert_eq!(parts.of(&panels[1..]), None);
        assert_eq!(Parts { batch: 0, ..parts.clone() }.of(&[]), Some(vec![]));
        assert_eq!(Parts { depth: usize::MAX, loops: vec![], ..parts.clone() }.bytes(), None);
    }
}
