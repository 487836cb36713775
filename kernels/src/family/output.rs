//! What becomes of a thread's sums: the epilogue's operands are read and its results written, neighbours together.

use super::affine::{Linear, split, weighted};
use super::{Unsupported, scalar};
use crate::dsl::{Val, Writer};
use crate::ptx::{Op, Ty};
use wpk_plan::problem::{Contraction, Operand, Roles};

/// A rectangle of sums: rows by groups of neighbouring columns.
pub struct Rectangle {
    /// The batch's number.
    pub batch: Val,
    /// By row, its number among all.
    pub rows: Vec<Val>,
    /// By group, the number of its first column.
    pub columns: Vec<Val>,
    /// Columns of a group.
    pub group: usize,
    /// Whether every row and every column exists.
    pub whole: (bool, bool),
    /// Groups of columns whose operands are read before the first of them is stored, so that their loads do not wait for each other;
    /// where it is none, every result's operands are read just before it.
    pub ahead: usize,
}

/// Stores what the epilogue makes of `sums[row][column]`.
pub fn store(k: &mut Writer, c: &Contraction, roles: &Roles, r: &Rectangle, sums: &[Vec<Val>]) -> Result<(), Unsupported> {
    let mut result = Ok(());
    let (m, n) = (roles.count(&roles.m) as i64, roles.count(&roles.n) as i64);
    let last = [c.out.clone()];
    let operands: Vec<Line> = c.extras.iter().chain(&last).enumerate().map(|(i, o)| Line::new(k, c, roles, r, o, 2 + i as u32)).collect();
    // Where groups do not exist as a whole, columns are stored one by one.
    let split_columns = !r.whole.1 && n % r.group as i64 != 0;
    let early = (r.ahead > 0 && !split_columns && operands[..c.extras.len()].iter().any(|o| o.by_row)).then(|| Early::new(k, c, roles, r));
    let mut given = vec![];
    for (g, &column) in r.columns.iter().enumerate() {
        if let Some(early) = early.as_ref().filter(|_| g.is_multiple_of(r.ahead)) {
            let next = &r.columns[g..r.columns.len().min(g + r.ahead)];
            given = next.iter().map(|&column| early.load(k, r, column, n)).collect();
        }
        let given: Option<&Vec<Vec<Vec<Val>>>> = given.get(g % r.ahead.max(1));
        let columns: Vec<(usize, usize)> = if split_columns { (0..r.group).map(|j| (j, 1)).collect() } else { vec![(0, r.group)] };
        for (first, count) in columns {
            let at = k.plus(column, first as i64);
            let exists = if r.whole.1 { None } else { Some(k.below(at, n)) };
            let rows = |k: &mut Writer| {
                // What no row changes is read once.
                let read = |o: &Line<'_>| !o.by_row && given.is_none();
                let fixed: Vec<Option<Vec<Val>>> =
                    operands[..c.extras.len()].iter().map(|o| read(o).then(|| o.load(k, None, at, count))).collect();
                for (i, &row) in r.rows.iter().enumerate() {
                    let mut cell = |k: &mut Writer| {
                        let extras: Vec<Vec<Val>> = match given {
                            Some(rows) => rows[i].clone(),
                            None => operands[..c.extras.len()]
                                .iter()
                                .zip(&fixed)
                                .map(|(o, f)| f.clone().unwrap_or_else(|| o.load(k, Some(i), at, count)))
                                .collect(),
                        };
                        let mut values = vec![];
                        for j in 0..count {
                            let mut inputs = vec![sums[i][g * r.group + first + j]];
                            inputs.extend(extras.iter().map(|e| e[j]));
                            let mut coordinate = |k: &mut Writer, d: usize| {
                                let mut point = vec![k.int(0, Ty::U32); c.space.len()];
                                split(k, r.batch, &roles.batch, &c.space, &mut point);
                                split(k, row, &roles.m, &c.space, &mut point);
                                let at = k.plus(at, j as i64);
                                split(k, at, &roles.n, &c.space, &mut point);
                                point[d]
                            };
                            match scalar::emit_stored(k, &c.epilogue, &inputs, &mut coordinate) {
                                Ok(v) => values.push(v[0]),
                                Err(e) => result = Err(e),
                            }
                        }
                        operands[c.extras.len()].store(k, i, at, &values);
                    };
                    match r.whole.0 {
                        true => cell(k),
                        false => {
                            let exists = k.below(row, m);
                            k.when(exists, cell);
                        }
                    }
                }
            };
            k.when_some(exists, rows);
        }
    }
    result
}

/// The epilogue's operands, read ahead of their use: without a condition, rows and columns that do not exist as the last that do.
struct Early<'a> {
    operands: Vec<Line<'a>>,
}

impl<'a> Early<'a> {
    fn new(k: &mut Writer, c: &'a Contraction, roles: &Roles, r: &Rectangle) -> Self {
        let last = k.int(roles.count(&roles.m) as i64 - 1, Ty::U32);
        let inside = |k: &mut Writer, row: Val| if r.whole.0 { row } else { k.op(Ty::U32, Op::Min, &[row, last]) };
        let rows = r.rows.iter().map(|&row| inside(k, row)).collect();
        let clamped = Rectangle { rows, columns: vec![], ..*r };
        Self { operands: c.extras.iter().enumerate().map(|(i, o)| Line::new(k, c, roles, &clamped, o, 2 + i as u32)).collect() }
    }

    /// By row and operand, the values of a group of columns of which `n` exist.
    fn load(&self, k: &mut Writer, r: &Rectangle, column: Val, n: i64) -> Vec<Vec<Vec<Val>>> {
        let last = k.int(n - r.group as i64, Ty::U32);
        let column = if r.whole.1 { column } else { k.op(Ty::U32, Op::Min, &[column, last]) };
        let fixed: Vec<Option<Vec<Val>>> = self.operands.iter().map(|o| (!o.by_row).then(|| o.load(k, None, column, r.group))).collect();
        let row = |k: &mut Writer, i: usize| {
            let operands = self.operands.iter().zip(&fixed);
            operands.map(|(o, f)| f.clone().unwrap_or_else(|| o.load(k, Some(i), column, r.group))).collect()
        };
        (0..r.rows.len()).map(|i| row(k, i)).collect()
    }
}

/// An operand of the epilogue, with what batch and rows contribute to its place.
struct Line<'a> {
    param: u32,
    operand: &'a Operand,
    linear: Linear,
    columns: Vec<usize>,
    start: Val,
    by_row: bool,
    rows: Vec<Val>,
}

impl<'a> Line<'a> {
    fn new(k: &mut Writer, c: &Contraction, roles: &Roles, r: &Rectangle, operand: &'a Operand, param: u32) -> Self {
        let linear = Linear::view(&operand.view, &c.space);
        let start = k.int(linear.base, Ty::S32);
        let batch = weighted(k, r.batch, &roles.batch, &c.space, &linear.per_loop);
        let start = k.add(start, batch);
        let by_row = linear.uses(&roles.m);
        let rows = r.rows.iter().map(|&x| {
            let row = weighted(k, x, &roles.m, &c.space, &linear.per_loop);
            k.add(start, row)
        });
        Self { param, operand, columns: roles.n.clone(), start, by_row, rows: rows.collect(), linear }
    }

    /// The place of a column, and whether `n` neighbours are accessed at once.
    fn place(&self, k: &mut Writer, row: Option<usize>, column: Val, n: usize) -> (Val, bool) {
        let start = row.map_or(self.start, |i| self.rows[i]);
        let moved = weighted(k, column, &self.columns, &self.linear.space, &self.linear.per_loop);
        let at = k.add(start, moved);
        let wide = n > 1 && self.linear.together(&self.columns, n);
        (k.element(self.param, at, self.operand.dtype.bytes()), wide)
    }

    fn load(&self, k: &mut Writer, row: Option<usize>, column: Val, n: usize) -> Vec<Val> {
        let dtype = self.operand.dtype;
        let (address, wide) = self.place(k, row, column, n);
        if wide {
            return scalar::load_neighbours(k, dtype, address, 0, n);
        }
        if !self.linear.uses(&self.columns) {
            return vec![scalar::load_neighbours(k, dtype, address, 0, 1)[0]; n];
        }
        (0..n)
            .map(|j| {
                let column = k.plus(column, j as i64);
                let (address, _) = self.place(k, row, column, 1);
                scalar::load_neighbours(k, dtype, address, 0, 1)[0]
            })
            .collect()
    }

    fn store(&self, k: &mut Writer, row: usize, column: Val, values: &[Val]) {
        let dtype = self.operand.dtype;
        let (address, wide) = self.place(k, Some(row), column, values.len());
        if wide {
            return scalar::store_neighbours(k, dtype, address, 0, values);
        }
        for (j, &value) in values.iter().enumerate() {
            let column = k.plus(column, j as i64);
            let (address, _) = self.place(k, Some(row), column, 1);
            scalar::store_neighbours(k, dtype, address, 0, &[value]);
        }
    }
}
