//! Sums of products of warpgroups, whose factors may be parts of `f32` (see [`Mode::Parts`]).

use super::products::Mode;
use crate::dsl::{GroupMma, Val, Writer};
use crate::ptx::{Op, Ty};

/// What a warp adds up.
pub struct Sums {
    /// Products of the largest parts, but for the latest ones; none where factors are whole.
    all: Vec<Val>,
    /// Where a part of the rows is multiplied by all parts of the columns that matter beside it at once, the sums of each part of the rows, a set for
    /// every part of the columns. Else products of the largest parts, and all others.
    ///
    /// The first set has the latest products of the largest parts: the little that tensor cores cut off at every addition adds up there. All others
    /// are so small that what is cut off of their sums does not count.
    products: Vec<Vec<Val>>,
    parts: u32,
    together: bool,
}

/// Columns of a product at most, where those of all parts of a factor are multiplied at once: registers hold six sets of sums.
const TOGETHER: u32 = 32;

impl Sums {
    /// Elements of depth after which products of the largest parts are gathered.
    pub const GATHERED: u32 = 64;

    /// Of factors in so many parts, sets of sums of so many columns each, and those of a set that a product adds to.
    fn sets(columns: u32, parts: u32) -> Vec<u32> {
        match parts {
            1 => vec![1],
            _ if columns <= TOGETHER => (1..=parts).rev().collect(),
            _ => vec![1, 1],
        }
    }

    /// Registers of a thread for so many columns of factors in so many parts.
    pub fn registers(columns: u32, parts: u32) -> u32 {
        let gathered = u32::from(parts > 1);
        columns / 2 * (gathered + Self::sets(columns, parts).iter().sum::<u32>())
    }

    /// Columns of each product of a step.
    pub fn widths(columns: u32, parts: u32) -> Vec<u32> {
        let together = Self::sets(columns, parts).len() as u32 == parts;
        let all = parts * (parts + 1) / 2;
        if together { (1..=parts).map(|n| n * columns).collect() } else { vec![columns; all as usize] }
    }

    /// Of so many columns, of factors in so many parts.
    pub fn new(k: &mut Writer, columns: u32, parts: u32) -> Self {
        let zero = k.float(0.0, Ty::F32);
        let mut zeros = |sets: u32| (0..sets * columns / 2).map(|_| k.variable(zero)).collect();
        let sets = Self::sets(columns, parts);
        let all = zeros(u32::from(parts > 1));
        let products = sets.iter().map(|&n| zeros(n)).collect();
        Self { all, products, parts, together: sets.len() as u32 == parts }
    }

    /// Begins the products of a part of the rows; the columns' parts lie one behind the other, so many bytes apart.
    pub fn multiply(&self, k: &mut Writer, mode: Mode, (part, rows): (u32, &[Val]), (columns, apart): (Val, u32)) {
        let how = GroupMma { adds: true, across: false };
        if self.together {
            return k.group_mma((mode.factor(), how), &self.products[part as usize], rows, columns);
        }
        for of_column in 0..self.parts - part {
            let b = k.plus(columns, i64::from((of_column * apart) >> 4));
            let sums = &self.products[usize::from(part + of_column > 0)];
            k.group_mma((mode.factor(), how), sums, rows, b);
        }
    }

    /// Gathers the products of the largest parts, which are over.
    pub fn gather(&self, k: &mut Writer) {
        let zero = k.float(0.0, Ty::F32);
        for (&sum, &x) in self.all.iter().zip(&self.products[0]) {
            k.update(sum, Op::Add, &[sum, x]);
            k.assign(x, zero);
        }
    }

    /// All products, which are over.
    pub fn total(mut self, k: &mut Writer) -> Vec<Val> {
        if self.all.is_empty() {
            return self.products.swap_remove(0);
        }
        let sets: Vec<&[Val]> = self.products.iter().flat_map(|p| p.chunks(self.all.len())).collect();
        for (i, &sum) in self.all.iter().enumerate() {
            // The largest last.
            let rest = sets.iter().rev().map(|set| set[i]).reduce(|sum, x| k.add(sum, x));
            rest.into_iter().for_each(|rest| k.update(sum, Op::Add, &[sum, rest]));
        }
        self.all
    }
}
