//! [com.microsoft::MatMulNBits](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits): a product by weights of a few bits in blocks with a scale each. The weights are
//! numbers to products, which on the CPU read them as they were.

use super::mat_mul::matmul;
use super::{Context, Imported, OpDef};
use crate::graph::Literal;
use crate::quantized::Quantized;
use std::sync::Arc;
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "com.microsoft::MatMulNBits", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let a = cx.input(0)?;
    let number = |cx: &Context<'_>, name: &str, default: i64| usize::try_from(cx.attrs.int(name).unwrap_or(default)).unwrap_or(0);
    let (depth, columns, bits, block) = (number(cx, "K", 0), number(cx, "N", 0), number(cx, "bits", 4), number(cx, "block_size", 0));
    if !matches!(bits, 2 | 4 | 8) || block < 8 || !block.is_power_of_two() || depth == 0 || columns == 0 {
        return Err(format!("K={depth} N={columns} bits={bits} block_size={block} is not supported").into());
    }
    if cx.optional(4).is_some() {
        return Err("reordered groups (g_idx) are not supported".into());
    }
    let blocks = depth.div_ceil(block);
    let constant =
        |cx: &Context<'_>, i: usize, what: &str| cx.constant(i, what)?.ok_or_else(|| super::Refusal::from(format!("there is no {what}")));
    let (packed, scales) = (constant(cx, 1, "B")?, constant(cx, 2, "scales")?.to_floats());
    let sizes = [blocks * block, columns].into_iter().try_fold(1usize, usize::checked_mul).filter(|n| *n <= 1 << 32);
    let len = sizes.ok_or("the weights are too large")?;
    if packed.bytes.len() != len * bits / 8 || scales.len() != columns * blocks {
        return Err(format!("weights of {} bytes with {} scales do not fit", packed.bytes.len(), scales.len()).into());
    }
    let field = |bytes: &[u8], i: usize| (bytes[i * bits / 8] >> (i * bits % 8)) & (((1u16 << bits) - 1) as u8);
    // Rows of zero points are packed by themselves.
    let row = (blocks * bits).div_ceil(8);
    let zeros = cx.constant(3, "zero_points")?;
    if let Some(z) = &zeros
        && !(z.dtype.is_float() && z.len() == columns * blocks || z.bytes.len() == columns * row && !z.dtype.is_float())
    {
        return Err(format!("zero points of {:?} do not fit", z.shape).into());
    }
    let middle = f64::from(1u32 << (bits - 1));
    let floats = zeros.as_ref().filter(|z| z.dtype.is_float()).map(Literal::to_floats);
    let zero = |n: usize, b: usize| match (&floats, &zeros) {
        (Some(f), _) => f[n * blocks + b],
        (None, Some(z)) => f64::from(field(&z.bytes[n * row..(n + 1) * row], b)),
        (None, None) => middle,
    };
    let (mut levels, mut by) = (vec![0.0; depth * columns], vec![0.0; depth * columns]);
    for n in 0..columns {
        for k in 0..depth {
            let (b, at) = (k / block, n * blocks * block + k);
            levels[k * columns + n] = f64::from(field(&packed.bytes, at)) - zero(n, b);
            by[k * columns + n] = scales[n * blocks + b];
        }
    }
    let (shape, numbers) = ([depth, columns], levels.iter().zip(&by).map(|(l, s)| l * s).collect::<Vec<f64>>());
    let bytes = |x: f64| (x.fract() == 0.0 && (-128.0..128.0).contains(&x)).then_some(x as i64);
    let quantized = levels.into_iter().map(bytes).collect::<Option<Vec<i64>>>().map(|levels| {
        let scale = Some(Literal::floats(DType::F32, &shape, &by));
        Arc::new(Quantized { levels: Literal::ints(DType::I8, &shape, &levels), scale })
    });
    let weights = cx.b.constant(Literal { quantized, ..Literal::floats(cx.dtype(a), &shape, &numbers) });
    let y = matmul(cx, a, weights)?;
    match cx.optional(5) {
        Some(bias) => Ok(vec![cx.b.binary(Binary::Add, y, bias)?]),
        None => Ok(vec![y]),
    }
}
