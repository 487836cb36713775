//! What is stored for a sum: bias, residual and activation while the tile is still in cache.

use super::activation::{Activation, finish};
use super::code::{BLOCK, Code, Register};
use super::floats::Floats;
use super::map::{load, store};
use super::microkernel::{Direct, L1, STRIDE, fetch};
use super::requantize::{Places, Requantize, Residual, VECTORS, prepare, requantize};
use std::ops::Range;
use wpk_plan::problem::{Contraction, PANEL};
use wpk_plan::{Binary, DType, Expr, Unary, View};

/// Elements of an operand by row and column of the product.
pub(crate) struct Grid {
    dtype: DType,
    base: i64,
    rows: Vec<u32>,
    /// Whether all rows are one.
    vector: bool,
    /// Elements from one column to the next, or every column's offset.
    step: Result<i64, Vec<i64>>,
}

impl Grid {
    /// The part of a view along some loops for rows, and others for columns.
    fn new(dtype: DType, view: &View, rows: &[usize], columns: &[usize]) -> Option<Self> {
        let along = |loops: &[usize]| {
            let part = View { offset: 0, ..view.transpose(loops) };
            let mut offsets = vec![0i64];
            for (&n, &s) in part.shape.iter().zip(&part.strides) {
                offsets = offsets.iter().flat_map(|&o| (0..n as i64).map(move |i| o + i * s)).collect();
            }
            offsets
        };
        let columns = along(columns);
        let step = columns.get(1).map_or(i64::from(columns.len() > 1 || view.strides.last() != Some(&0)), |&s| s);
        let uniform = columns.iter().enumerate().all(|(i, &o)| o == i as i64 * step);
        let rows: Vec<u32> = along(rows).into_iter().map(u32::try_from).collect::<Result<_, _>>().ok()?;
        let vector = rows.iter().all(|&r| r == 0);
        Some(Self { dtype, base: view.offset as i64, rows, vector, step: if uniform { Ok(step) } else { Err(columns) } })
    }

    fn at(&self, batch: i64, row: usize, column: usize) -> i64 {
        let column = match &self.step {
            Ok(step) => column as i64 * step,
            Err(offsets) => offsets[column],
        };
        self.base + batch + i64::from(self.rows[row]) + column
    }
}

enum Kind {
    /// An activation of the sum plus vectors along the columns plus a tensor like the output.
    Simple {
        biases: Vec<usize>,
        residual: Option<usize>,
        activation: Activation,
    },
    /// Sums of bytes back to bytes.
    Requantize(Requantize),
    /// Other functions of bytes and sums of bytes, in `f32`.
    Floats(Floats),
    General(Code),
}

/// Numbers of a line of the caches.
const LINE: usize = 16;

/// The end of a contraction.
pub(crate) struct Epilogue {
    kind: Kind,
    /// The type of the sums, of four bytes.
    sum: DType,
    out: Grid,
    extras: Vec<Grid>,
    /// By batch: the offset of the output, then of every extra.
    batches: Vec<Vec<i64>>,
}

impl Epilogue {
    /// For a contraction whose output loops are split into batches, rows and columns.
    pub(crate) fn new(c: &Contraction, batch: &[usize], rows: &[usize], columns: &[usize]) -> Option<Self> {
        let out = Grid::new(c.out.dtype, &c.out.view, rows, columns)?;
        let extras = c.extras.iter().map(|e| Grid::new(e.dtype, &e.view, rows, columns)).collect::<Option<Vec<_>>>()?;
        let views = [&c.out.view].into_iter().chain(c.extras.iter().map(|e| &e.view));
        let mut batches = vec![vec![]; batch.iter().map(|&l| c.space[l]).product()];
        for view in views {
            let part = View { offset: 0, ..view.transpose(batch) };
            part.offsets().zip(&mut batches).for_each(|(o, b)| b.push(o as i64));
        }
        let kind = simple(c, &out, &extras).or_else(|| {
            let floats = Floats::new(&c.epilogue)?;
            let requantize = floats.requantization().filter(|r| {
                // Everything but the residual lies along the columns.
                let residual = r.residual.map(|r| r.input - 1);
                let vectors = extras.iter().enumerate().all(|(i, e)| (e.vector || residual == Some(i)) && e.step == Ok(1));
                vectors && out.step == Ok(1)
            });
            Some(requantize.map_or(Kind::Floats(floats), Kind::Requantize))
        });
        let kind = kind.unwrap_or_else(|| Kind::General(Code::new(&c.epilogue)));
        Some(Self { kind, sum: c.sum, out, extras, batches })
    }

    /// Bytes of scratch for one thread.
    pub(crate) fn scratch(&self) -> usize {
        match &self.kind {
            Kind::Simple { biases, .. } if biases.len() > 1 => STRIDE * 4,
            Kind::Simple { .. } => 0,
            Kind::Requantize(_) => VECTORS * 4,
            Kind::Floats(floats) => floats.scratch(),
            Kind::General(code) => code.scratch(),
        }
    }

    /// What a kernel needs to store sums at once, for so many columns: where a vector, a tensor and bounds are all there is.
    ///
    /// # Safety
    /// As for [`Epilogue::store`].
    pub(crate) unsafe fn direct(&self, batch: usize, row: usize, (column, columns): (usize, usize), args: &[*mut u8]) -> Option<Direct> {
        let Kind::Simple { biases, residual, activation } = &self.kind else { return None };
        let bounds = match *activation {
            Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
            Activation::Clamp(low, high) => (low, high),
            _ => return None,
        };
        let offsets = &self.batches[batch];
        let place = |arg: usize, offset: i64| args[arg].cast::<f32>().wrapping_offset(offset as isize + column as isize);
        let bias = match biases[..] {
            [] => std::ptr::null(),
            [e] => place(2 + e, self.extras[e].base + offsets[1 + e]).cast_const(),
            _ => return None,
        };
        let tensor = |e: usize| (place(2 + e, self.extras[e].base + offsets[1 + e]).cast_const(), self.extras[e].rows[row..].as_ptr());
        let (residual, theirs) = residual.map_or((std::ptr::null(), std::ptr::null()), tensor);
        Some(Direct {
            last: columns - (columns - 1) / PANEL * PANEL,
            bias,
            residual,
            theirs,
            bounds,
            to: place(args.len() - 1, self.out.base + offsets[0]),
            rows: self.out.rows[row..].as_ptr(),
        })
    }

    /// Asks for what [`Epilogue::store`] reads beside the sums of a tile.
    pub(crate) fn fetch(&self, batch: usize, rows: Range<usize>, column: usize, columns: usize, args: &[*mut u8]) {
        let Kind::Simple { residual: Some(e), .. } = self.kind else { return };
        let extra = &self.extras[e];
        let first = args[2 + e].cast::<f32>().wrapping_offset((extra.base + self.batches[batch][1 + e]) as isize + column as isize);
        for &row in &extra.rows[rows] {
            (0..columns).step_by(LINE).for_each(|at| fetch::<L1>(first.wrapping_add(row as usize + at)));
        }
    }

    /// Makes ready for tiles of some columns what is the same for all rows.
    ///
    /// # Safety
    /// As for [`Epilogue::store`].
    pub(crate) unsafe fn prepare(&self, batch: usize, (column, columns): (usize, usize), args: &[*mut u8], scratch: *mut u8) {
        let Kind::Requantize(r) = &self.kind else { return };
        // Vectors of `i32` and `f32` alike: elements of four bytes.
        let input = |i: usize| {
            let offset = self.extras[i - 1].base + self.batches[batch][i];
            args[1 + i].cast::<f32>().wrapping_offset(offset as isize + column as isize).cast_const()
        };
        unsafe { prepare(r, input, columns, scratch.cast()) }
    }

    /// Stores a tile of sums: `rows` rows from `row` on, columns from `column` on, which are prepared.
    ///
    /// # Safety
    /// `out` and `extras` point to the arguments, `scratch` to [`Epilogue::scratch`] bytes.
    pub(crate) unsafe fn store(
        &self,
        tile: *const f32,
        batch: usize,
        row: usize,
        rows: usize,
        column: usize,
        columns: usize,
        args: &[*mut u8],
        scratch: *mut u8,
    ) {
        let offsets = &self.batches[batch];
        let out = args[args.len() - 1];
        match &self.kind {
            Kind::Simple { biases, residual, activation } => {
                let base = |e: usize| {
                    args[2 + e]
                        .cast::<f32>()
                        .wrapping_offset((self.extras[e].base + offsets[1 + e]) as isize + column as isize)
                        .cast_const()
                };
                let (to, own) = (
                    out.cast::<f32>().wrapping_offset((self.out.base + offsets[0]) as isize + column as isize),
                    &self.out.rows[row..row + rows],
                );
                let vector = match biases[..] {
                    [] => std::ptr::null(),
                    [bias] => base(bias),
                    _ => {
                        let sum = scratch.cast::<f32>();
                        // SAFETY: every vector has an element for each column, the scratch for each of a tile.
                        unsafe {
                            std::ptr::copy_nonoverlapping(base(biases[0]), sum, columns);
                            for vector in biases[1..].iter().map(|&b| base(b)) {
                                (0..columns).for_each(|i| *sum.add(i) += *vector.add(i));
                            }
                        }
                        sum.cast_const()
                    }
                };
                let (tensor, theirs) = residual.map_or((std::ptr::null(), own), |e| (base(e), &self.extras[e].rows[row..row + rows]));
                unsafe { finish(tile, vector, tensor, theirs, *activation, to, own, columns) }
            }
            Kind::Requantize(r) => unsafe {
                let own = &self.out.rows[row..row + rows];
                let mut places = Places {
                    to: out.offset(((self.out.base + offsets[0]) as isize + column as isize) * self.out.dtype.bytes() as isize),
                    rows: own,
                    residual: std::ptr::null(),
                    theirs: own,
                };
                if let Some(Residual { input, .. }) = r.residual {
                    let grid = &self.extras[input - 1];
                    places.residual = args[1 + input].offset((grid.base + offsets[input]) as isize + column as isize).cast();
                    places.theirs = &grid.rows[row..row + rows];
                }
                requantize(r, tile.cast(), scratch.cast(), columns, places);
            },
            Kind::Floats(floats) => unsafe {
                let at_once = (BLOCK / columns.max(1)).max(1);
                for first in (0..rows).step_by(at_once) {
                    let some = Rows { first: row + first, count: at_once.min(rows - first), column, n: columns };
                    self.floats(floats, scratch, tile.add(first * STRIDE), offsets, (some, first == 0), args);
                }
            },
            Kind::General(code) => unsafe {
                let registers = code.registers(scratch);
                // As many rows as fill the lanes of a block.
                let at_once = (BLOCK / columns.max(1)).max(1);
                for first in (0..rows).step_by(at_once) {
                    let some = Rows { first: row + first, count: at_once.min(rows - first), column, n: columns };
                    self.general(code, registers, tile.add(first * STRIDE), offsets, some, args);
                }
            },
        }
    }

    /// A block of rows; vectors along the columns stay from one block of a tile to the next.
    unsafe fn floats(
        &self,
        f: &Floats,
        scratch: *mut u8,
        sums: *const f32,
        offsets: &[i64],
        (rows, begins): (Rows, bool),
        args: &[*mut u8],
    ) {
        let Rows { first, count, column, n } = rows;
        unsafe {
            for (register, input) in f.loads() {
                let Some(e) = input.checked_sub(1) else {
                    (0..count).for_each(|r| f.load(register, r * n, sums.add(r * STRIDE).cast(), 1, n, scratch));
                    continue;
                };
                let grid = &self.extras[e];
                if grid.vector && !begins {
                    continue;
                }
                let size = grid.dtype.bytes() as isize;
                for r in 0..count {
                    let p = |j: usize| args[2 + e].offset(grid.at(offsets[1 + e], first + r, column + j) as isize * size);
                    match grid.step {
                        Ok(step) => f.load(register, r * n, p(0), step as isize, n, scratch),
                        Err(_) => (0..n).for_each(|j| f.load(register, r * n + j, p(j), 0, 1, scratch)),
                    }
                }
            }
            f.run(count * n, scratch);
            let size = self.out.dtype.bytes() as isize;
            for r in 0..count {
                let p = |j: usize| args[args.len() - 1].offset(self.out.at(offsets[0], first + r, column + j) as isize * size);
                match self.out.step {
                    Ok(step) => f.store(r * n, p(0), step as isize, n, scratch),
                    Err(_) => (0..n).for_each(|j| f.store(r * n + j, p(j), 0, 1, scratch)),
                }
            }
        }
    }

    unsafe fn general(&self, code: &Code, registers: &mut [Register], sums: *const f32, offsets: &[i64], rows: Rows, args: &[*mut u8]) {
        let Rows { first, count, column, n } = rows;
        unsafe {
            for (i, inst) in code.function.insts.iter().enumerate() {
                let Expr::Input(operand) = inst.expr else { continue };
                let e = usize::from(operand).checked_sub(1);
                let t = e.map_or(self.sum, |e| self.extras[e].dtype);
                for r in 0..count {
                    let to = registers[i].add(r * n * lane(t));
                    let Some(e) = e else {
                        load(t, sums.add(r * STRIDE).cast(), 1, to, n);
                        continue;
                    };
                    let grid = &self.extras[e];
                    let p = |j: usize| args[2 + e].offset(grid.at(offsets[1 + e], first + r, column + j) as isize * t.bytes() as isize);
                    match grid.step {
                        Ok(step) => load(t, p(0), step as isize, to, n),
                        Err(_) => (0..n).for_each(|j| load(t, p(j), 0, to.add(j * lane(t)), 1)),
                    }
                }
            }
            code.run(registers, count * n);
            let (result, t) = (registers[usize::from(code.function.outputs[0])], self.out.dtype);
            for r in 0..count {
                let from = result.add(r * n * lane(t));
                let p =
                    |j: usize| args[args.len() - 1].offset(self.out.at(offsets[0], first + r, column + j) as isize * t.bytes() as isize);
                match self.out.step {
                    Ok(step) => store(t, from, p(0), step as isize, n),
                    Err(_) => (0..n).for_each(|j| store(t, from.add(j * lane(t)), p(j), 0, 1)),
                }
            }
        }
    }
}

/// Rows of a tile: the first, how many, and their columns.
struct Rows {
    first: usize,
    count: usize,
    column: usize,
    n: usize,
}

/// Bytes of a lane.
fn lane(t: DType) -> usize {
    if super::code::class(t) == super::code::Class::F32 { 4 } else { 8 }
}

/// The simple form of an epilogue, where it has one.
fn simple(c: &Contraction, out: &Grid, extras: &[Grid]) -> Option<Kind> {
    let f = &c.epilogue;
    if c.sum != DType::F32
        || out.dtype != DType::F32
        || out.step != Ok(1)
        || extras.iter().any(|e| e.dtype != DType::F32 || e.step != Ok(1))
    {
        return None;
    }
    let constant = |x: u16| match f.insts[usize::from(x)].expr {
        Expr::Const(bits) => Some(f64::from_bits(bits) as f32),
        _ => None,
    };
    let mut x = *f.outputs.first()?;
    let mut activation = Activation::None;
    match f.insts[usize::from(x)].expr {
        Expr::Binary(b @ (Binary::Max | Binary::Min), inner, c) => {
            let limit = constant(c)?;
            x = inner;
            let (mut low, mut high) = if b == Binary::Max { (limit, f32::INFINITY) } else { (f32::NEG_INFINITY, limit) };
            if let (Expr::Binary(Binary::Max, inner, c), Binary::Min) = (f.insts[usize::from(x)].expr, b) {
                (x, low) = (inner, constant(c)?);
            } else if let (Expr::Binary(Binary::Min, inner, c), Binary::Max) = (f.insts[usize::from(x)].expr, b) {
                // max(min(x, high), low) is the clamp where low <= high.
                (x, high) = (inner, constant(c).filter(|&h| low <= h)?);
            }
            activation = Activation::Clamp(low, high);
        }
        Expr::Unary(u, inner) => {
            x = inner;
            activation = match u {
                Unary::Gelu => Activation::Gelu,
                Unary::GeluTanh => Activation::GeluTanh,
                Unary::Silu => Activation::Silu,
                Unary::Sigmoid => Activation::Sigmoid,
                Unary::Tanh => Activation::Tanh,
                Unary::HardSwish => Activation::HardSwish,
                _ => return None,
            };
        }
        _ => {}
    }
    let mut terms = vec![];
    let mut queue = vec![x];
    while let Some(x) = queue.pop() {
        match f.insts[usize::from(x)].expr {
            Expr::Binary(Binary::Add, p, q) => queue.extend([p, q]),
            Expr::Input(i) => terms.push(usize::from(i)),
            _ => return None,
        }
    }
    terms.sort_unstable();
    // The sum itself exactly once.
    let [0, rest @ ..] = &terms[..] else { return None };
    if rest.first() == Some(&0) {
        return None;
    }
    let (biases, residual): (Vec<usize>, Vec<usize>) = rest.iter().map(|i| i - 1).partition(|&i| extras[i].vector);
    let distinct = rest.windows(2).all(|w| w[0] != w[1]) && residual.len() <= 1;
    distinct.then(|| Kind::Simple { biases, residual: residual.first().copied(), activation })
}
