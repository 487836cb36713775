//! [Det](https://onnx.ai/onnx/operators/onnx__Det.html): determinants of small square matrices, by expansion along rows.

use super::{Context, Imported, OpDef, Refusal};
use crate::graph::ValueId;
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Det", import };

/// Rows of the largest matrix.
const ROWS: usize = 5;

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let [batch @ .., m, n] = shape.as_slice() else { return Err(format!("{shape:?} holds no matrices").into()) };
    if m != n || *m == 0 || *m > ROWS {
        return Err(format!("matrices of {m} by {n} are not supported: square ones of at most {ROWS} rows are").into());
    }
    let columns: Vec<usize> = (0..*n).collect();
    let y = minor(cx, x, 0, &columns)?;
    Ok(vec![cx.b.reshape(y, batch)?])
}

/// The determinant of the rows from `row` on, and some columns.
fn minor(cx: &mut Context<'_>, x: ValueId, row: usize, columns: &[usize]) -> Result<ValueId, Refusal> {
    let rank = cx.shape(x).len();
    let mut sum: Option<ValueId> = None;
    for (i, &column) in columns.iter().enumerate() {
        let element = cx.b.range(x, rank - 2, row, 1)?;
        let mut term = cx.b.range(element, rank - 1, column, 1)?;
        let rest: Vec<usize> = columns.iter().copied().filter(|&c| c != column).collect();
        if !rest.is_empty() {
            let below = minor(cx, x, row + 1, &rest)?;
            term = cx.b.binary(Binary::Mul, term, below)?;
        }
        sum = Some(match sum {
            None => term,
            Some(sum) => cx.b.binary(if i % 2 == 0 { Binary::Add } else { Binary::Sub }, sum, term)?,
        });
    }
    sum.ok_or_else(|| "there are no columns".into())
}
