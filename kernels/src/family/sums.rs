//! Sums of products of warpgroups, whose factors may be parts of `f32` (see [`Mode::Parts`]).

use super::products::Mode;
use crate::dsl::{GroupMma, Val, Writer};
use crate::ptx::{Op, Ty};

/// What a warp adds up.
pub struct Sums {
    /// Products of the largest parts, but for the latest ones; none where factors are whole.
    all: Vec<Val>,
    /// The latest products of the largest parts: the little that tensor cores cut off at every addition adds up there. Two lists may take turns, so
    /// that one is gathered while products add to the other. Where a part of the rows is multiplied by all parts of the columns at once, all that
    /// the largest one gives, since a product's sums are neighbouring registers.
    latest: Vec<Vec<Val>>,
    /// The sums of all other products, which are so small that what is cut off of them does not count, by part of the rows where those are
    /// multiplied by several parts at once.
    small: Vec<Vec<Val>>,
    parts: u32,
    together: bool,
}

/// Columns of a product at most, where those of all parts of a factor are multiplied at once: registers hold six sets of sums.
const TOGETHER: u32 = 32;

impl Sums {
    /// Elements of depth after which products of the largest parts are gathered.
    pub const GATHERED: u32 = 64;

    /// Whether parts of so many columns are multiplied at once.
    fn are_together(columns: u32, parts: u32) -> bool {
        parts > 1 && columns <= TOGETHER
    }

    /// Of factors in so many parts, how many times the columns the latest lists have, and those of small products.
    fn lists(columns: u32, parts: u32) -> (u32, Vec<u32>) {
        match parts {
            1 => (1, vec![]),
            _ if Self::are_together(columns, parts) => (parts, (1..parts).rev().collect()),
            _ => (1, vec![1]),
        }
    }

    /// Registers of a thread for so many columns of factors in so many parts, of which so many lists take turns.
    pub fn registers(columns: u32, parts: u32, turns: u32) -> u32 {
        let (latest, small) = Self::lists(columns, parts);
        let all = if parts > 1 { 1 + turns * latest } else { latest };
        columns / 2 * (all + small.iter().sum::<u32>())
    }

    /// Columns of each product of a step.
    pub fn widths(columns: u32, parts: u32) -> Vec<u32> {
        let all = parts * (parts + 1) / 2;
        if Self::are_together(columns, parts) { (1..=parts).map(|n| n * columns).collect() } else { vec![columns; all as usize] }
    }

    /// Of so many columns, of factors in so many parts, with so many lists of the latest.
    pub fn new(k: &mut Writer, columns: u32, parts: u32, turns: u32) -> Self {
        let zero = k.float(0.0, Ty::F32);
        let mut zeros = |sets: u32| (0..sets * columns / 2).map(|_| k.variable(zero)).collect();
        let (latest, small) = Self::lists(columns, parts);
        let all = zeros(u32::from(parts > 1));
        let latest = (0..if parts > 1 { turns } else { 1 }).map(|_| zeros(latest)).collect();
        let small = small.into_iter().map(zeros).collect();
        Self { all, latest, small, parts, together: Self::are_together(columns, parts) }
    }

    /// Begins the products of a part of the rows, of the largest ones for the list whose turn it is; the columns' parts lie one behind the other,
    /// so many bytes apart.
    pub fn multiply(&self, k: &mut Writer, mode: Mode, (part, rows, turn): (u32, &[Val], usize), (columns, apart): (Val, u32)) {
        let how = GroupMma { adds: true, across: false };
        let sums = |small: u32| if small == 0 { &self.latest[turn] } else { &self.small[small as usize - 1] };
        if self.together {
            return k.group_mma((mode.factor(), how), sums(part), rows, columns);
        }
        for of_column in 0..self.parts - part {
            let b = k.plus(columns, i64::from((of_column * apart) >> 4));
            k.group_mma((mode.factor(), how), sums((part + of_column).min(1)), rows, b);
        }
    }

    /// Gathers the products of the largest parts in a list, which are over.
    pub fn gather(&self, k: &mut Writer, turn: usize) {
        let zero = k.float(0.0, Ty::F32);
        for (&sum, &x) in self.all.iter().zip(&self.latest[turn]) {
            k.update(sum, Op::Add, &[sum, x]);
            k.assign(x, zero);
        }
    }

    /// All products, which are over.
    pub fn total(mut self, k: &mut Writer) -> Vec<Val> {
        if self.all.is_empty() {
            return self.latest.swap_remove(0);
        }
        let sets: Vec<&[Val]> = self.latest.iter().chain(&self.small).flat_map(|p| p.chunks(self.all.len())).collect();
        for (i, &sum) in self.all.iter().enumerate() {
            // The largest last.
            let rest = sets.iter().rev().map(|set| set[i]).reduce(|sum, x| k.add(sum, x));
            rest.into_iter().for_each(|rest| k.update(sum, Op::Add, &[sum, rest]));
        }
        self.all
    }
}
