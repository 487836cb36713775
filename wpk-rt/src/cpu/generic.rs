//! Contractions that no fast path takes: plain loops for every type, with bounds where they are needed.

use super::code::Code;
use super::map::{load, store};
use super::{Args, Bound, Cx, part};
use wpk_plan::problem::{Access, Contraction};
use wpk_plan::{DType, Expr, View};

struct Generic {
    c: Contraction,
    code: Code,
    inner: Vec<Vec<usize>>,
}

pub(super) fn bind(c: &Contraction) -> Result<Box<dyn Bound>, String> {
    let bytes = (c.dtype, c.sum) == (DType::I8, DType::I32);
    if !bytes && (!matches!(c.dtype, DType::F32 | DType::F64 | DType::I32 | DType::I64) || c.sum != c.dtype) {
        return Err(format!("products of {} are not supported", c.dtype));
    }
    let points = View::dense(c.inner());
    let inner = (0..points.len()).map(|i| coordinates(c.inner(), i)).collect();
    Ok(Box::new(Generic { c: c.clone(), code: Code::new(&c.epilogue), inner }))
}

fn coordinates(shape: &[usize], mut i: usize) -> Vec<usize> {
    let mut point = vec![0; shape.len()];
    for d in (0..shape.len()).rev() {
        point[d] = i % shape[d];
        i /= shape[d];
    }
    point
}

/// Index of an access at an outer and an inner point.
fn at(access: &Access, outer: usize, point: &[usize], inner: &[usize]) -> Option<usize> {
    let mut at = access.offset as i64;
    for d in &access.dims {
        let value = |l: u8| {
            let l = usize::from(l);
            (if l < outer { point[l] } else { inner[l - outer] }) as i64
        };
        let sum = d.index.terms.iter().fold(d.index.offset, |s, &(l, c)| s + c * value(l));
        let index = sum / d.index.divisor;
        if sum % d.index.divisor != 0 || !(0..d.extent as i64).contains(&index) {
            return None;
        }
        at += index * d.stride;
    }
    Some(at as usize)
}

/// Most output loops; more are refused by the verifier long before.
const LOOPS: usize = 16;

impl Bound for Generic {
    fn scratch(&self) -> (usize, usize) {
        (0, self.code.scratch())
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let c = &self.c;
        let total: usize = c.space[..c.outer].iter().product();
        let tasks = (cx.pool.threads() * 4).min(total);
        let arguments = Args(args);
        cx.pool.run(tasks, &|task, thread| unsafe {
            let registers = self.code.registers(cx.own(thread));
            let args = arguments.get();
            let mut point = [0usize; LOOPS];
            for o in part(total, tasks, task) {
                let mut rest = o;
                for d in (0..c.outer).rev() {
                    point[d] = rest % c.space[d];
                    rest /= c.space[d];
                }
                let point = &point[..c.outer];
                let place = |v: &View| v.strides.iter().zip(point).fold(v.offset as i64, |at, (s, &p)| at + s * p as i64) as usize;
                for (i, inst) in self.code.function.insts.iter().enumerate() {
                    match inst.expr {
                        Expr::Input(0) => self.sum(args, point, registers[i]),
                        Expr::Input(e) => {
                            let extra = &c.extras[usize::from(e) - 1];
                            load(extra.dtype, args[1 + usize::from(e)].add(place(&extra.view) * extra.dtype.bytes()), 0, registers[i], 1);
                        }
                        _ => {}
                    }
                }
                self.code.run(registers, 1);
                let result = registers[usize::from(self.code.function.outputs[0])];
                store(c.out.dtype, result, args[args.len() - 1].add(place(&c.out.view) * c.out.dtype.bytes()), 0, 1);
            }
        });
    }
}

impl Generic {
    /// One sum, as a lane of its class.
    unsafe fn sum(&self, args: &[*mut u8], point: &[usize], to: *mut u8) {
        let c = &self.c;
        macro_rules! fold {
            ($T:ty, $L:ty, $zero:expr, $add:expr) => {{
                let (a, b) = (args[0].cast::<$T>(), args[1].cast::<$T>());
                let terms = self.inner.iter().filter_map(|r| Some((at(&c.a, c.outer, point, r)?, at(&c.b, c.outer, point, r)?)));
                let sum: $L = terms.fold($zero, |s: $L, (i, j)| $add(s, a.add(i).read_unaligned(), b.add(j).read_unaligned()));
                sum
            }};
        }
        unsafe {
            match c.dtype {
                DType::F32 => to.cast::<f32>().write(fold!(f32, f64, 0.0, |s, x, y| s + f64::from(x) * f64::from(y)) as f32),
                DType::F64 => to.cast::<f64>().write(fold!(f64, f64, 0.0, |s: f64, x: f64, y: f64| s + x * y)),
                DType::I8 => to.cast::<i64>().write(c.sum.wrap(fold!(i8, i64, 0, |s: i64, x: i8, y: i8| s + i64::from(x) * i64::from(y)))),
                DType::I32 => to.cast::<i64>().write(
                    c.sum.wrap(fold!(i32, i64, 0, |s: i64, x: i32, y: i32| s.wrapping_add(i64::from(x).wrapping_mul(i64::from(y))))),
                ),
                _ => to.cast::<i64>().write(fold!(i64, i64, 0, |s: i64, x: i64, y: i64| s.wrapping_add(x.wrapping_mul(y)))),
            }
        }
    }
}
