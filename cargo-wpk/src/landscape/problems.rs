//! The problems whose landscapes are recorded, and those that the estimate is looked at for.

use wpk_build::Precision;
use wpk_build::graph::{Builder, Conv, Graph, Op};
use wpk_build::lower::{self, Weights};
use wpk_build::passes;
use wpk_plan::problem::Problem;
use wpk_plan::{Binary, DType, ScalarFn, Unary, WeightLayout};

/// Convolutions as input channels, extent, output channels, kernel, stride, padding: ResNet-18's twelve, and four of ResNet-50.
const CONVS: &[[usize; 6]] = &[
    [4, 224, 64, 7, 2, 3],
    [64, 56, 64, 3, 1, 1],
    [64, 56, 64, 1, 1, 0],
    [64, 56, 128, 3, 2, 1],
    [64, 56, 128, 1, 2, 0],
    [128, 28, 128, 3, 1, 1],
    [128, 28, 256, 3, 2, 1],
    [128, 28, 256, 1, 2, 0],
    [256, 14, 256, 3, 1, 1],
    [256, 14, 512, 3, 2, 1],
    [256, 14, 512, 1, 2, 0],
    [512, 7, 512, 3, 1, 1],
    [256, 56, 64, 1, 1, 0],
    [1024, 14, 256, 1, 1, 0],
    [2048, 7, 512, 1, 1, 0],
    [512, 7, 2048, 1, 1, 0],
];

/// Products as rows, columns and depth: BERT's and ViT's for one item and 32.
const PRODUCTS: &[[usize; 3]] = &[
    [128, 768, 768],
    [128, 3072, 768],
    [128, 768, 3072],
    [4096, 768, 768],
    [4096, 3072, 768],
    [4096, 768, 3072],
    [6304, 768, 3072],
    [4096, 4096, 4096],
    [1, 1000, 2048],
];

/// Products with what follows them in BERT and ViT, likewise: a bias, and behind it nothing, GELU or a residual.
const FOLLOWED: &[([usize; 3], Follows)] = &[
    ([4096, 2304, 768], Follows::Nothing),
    ([4096, 768, 768], Follows::Residual),
    ([4096, 3072, 768], Follows::Gelu),
    ([4096, 768, 3072], Follows::Residual),
    ([6304, 2304, 768], Follows::Nothing),
    ([6304, 3072, 768], Follows::Gelu),
    ([6304, 768, 3072], Follows::Residual),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Follows {
    Nothing,
    Gelu,
    Residual,
}

/// Attention as batch, heads, rows and depth: BERT's and ViT's.
const ATTENTIONS: &[[usize; 4]] = &[
    [1, 12, 128, 64],
    [32, 12, 128, 64],
    [1, 12, 197, 64],
    [32, 12, 197, 64],
    [1, 12, 1024, 64],
    [8, 12, 256, 64],
    [8, 12, 512, 64],
    [8, 12, 2048, 64],
];

/// How many of the landscapes' problems are ResNet-18's.
pub const RESNET18: usize = 12;

/// Further convolutions of ResNet-50, which the landscapes hold beside [`CONVS`].
const MORE: &[[usize; 6]] = &[[512, 28, 128, 1, 1, 0], [128, 28, 512, 1, 1, 0], [256, 14, 1024, 1, 1, 0], [512, 14, 512, 3, 2, 1]];

/// Depthwise convolutions of MobileNetV2 as channels, extent, kernel, stride, padding.
const DEPTHWISE: &[[usize; 5]] = &[[96, 112, 3, 2, 1], [144, 56, 3, 1, 1], [384, 14, 3, 1, 1], [960, 7, 3, 1, 1]];

/// A problem by its name, with the layout of its weights.
pub type Named = (String, Problem, WeightLayout);

/// The twenty convolutions whose landscapes are recorded.
pub fn landscapes(precision: Precision) -> Vec<Named> {
    CONVS.iter().chain(MORE).filter_map(|c| convolution(precision, 1, *c, 1)).collect()
}

/// Problems that the estimate is looked at for.
pub fn all(precision: Precision) -> Vec<Named> {
    let mut all: Vec<Named> = landscapes(precision);
    all.extend(CONVS.iter().filter_map(|c| convolution(precision, 32, *c, 1)));
    all.extend([1, 32].iter().flat_map(|&batch| DEPTHWISE.iter().filter_map(move |&d| depthwise(precision, batch, d))));
    for &[m, n, k] in PRODUCTS {
        let made = graph(precision, &[m, k], &[k, n], product(None));
        all.extend(made.and_then(|g| single(precision, format!("product {m} {n} {k}"), &g)));
    }
    for &(sizes, follows) in FOLLOWED {
        let [m, n, k] = sizes;
        let name = format!("product {m} {n} {k} {follows:?}").to_lowercase();
        all.extend(followed(precision, sizes, follows).and_then(|g| single(precision, name, &g)));
    }
    for &[batch, heads, rows, depth] in ATTENTIONS {
        let mut b = Builder::default();
        let shape = [batch, heads, rows, depth];
        let operands = ["q", "k", "v"].map(|name| b.input(name, factor(precision), &shape));
        let Ok(y) = b.one(Op::Attention { scale: 0.125, mask: false }, &operands) else { continue };
        b.graph.outputs.push(("y".to_owned(), y));
        all.extend(single(precision, format!("attention {batch} {heads} {rows} {depth}"), &b.graph));
    }
    all
}

fn depthwise(precision: Precision, batch: usize, [c, h, k, stride, pad]: [usize; 5]) -> Option<Named> {
    let (name, problem, layout) = convolution(precision, batch, [c, h, c, k, stride, pad], c)?;
    Some((name.replace("conv", "depthwise"), problem, layout))
}

/// The twenty convolutions that `gpu_peers.py` times, under its names: images of three channels, and depthwise ones.
pub fn peers(precision: Precision, batch: usize) -> Vec<Named> {
    let dense = CONVS.iter().map(|&[c, h, n, k, stride, pad]| ([if c == 4 { 3 } else { c }, h, n, k, stride, pad], 1));
    let depthwise = DEPTHWISE.iter().map(|&[c, h, k, stride, pad]| ([c, h, c, k, stride, pad], c));
    let named = |(c, groups): ([usize; 6], usize)| {
        let (_, problem, layout) = convolution(precision, batch, c, groups)?;
        let [ci, h, n, k, stride, pad] = c;
        let name = format!("{} b{batch} ({ci}, {h}, {n}, {k}, {stride}, {pad}, {groups})", format!("{precision:?}").to_lowercase());
        Some((name, problem, layout))
    };
    dense.chain(depthwise).filter_map(named).collect()
}

fn convolution(precision: Precision, batch: usize, [c, h, n, k, stride, pad]: [usize; 6], groups: usize) -> Option<Named> {
    let conv = Conv {
        strides: vec![stride; 2],
        pads: vec![pad as i64; 2],
        dilations: vec![1; 2],
        groups,
        transposed: false,
        out: vec![(h + 2 * pad - k) / stride + 1; 2],
        channels_last: true,
        epilogue: None,
    };
    let graph = graph(precision, &[batch, h, h, c], &[n, c / groups, k, k], Op::Conv(conv))?;
    let graph = match passes::pad_channels(precision) {
        Some(pass) => passes::apply(&pass, &graph, &[], &mut vec![]).ok()?,
        None => graph,
    };
    single(precision, format!("conv b{batch} {c} {h} {n} {k} {stride} {pad}"), &graph)
}

/// The only problem of a graph that is more than a copy.
fn single(precision: Precision, name: String, graph: &Graph) -> Option<Named> {
    let problems = lower::problems(graph, &mut Weights::untold(), precision == Precision::Tf32);
    problems.into_iter().find(|p| !matches!(p.0, Problem::Move(_))).map(|(problem, layout)| (name, problem, layout))
}

/// The type of factors.
fn factor(precision: Precision) -> DType {
    match precision {
        Precision::Fp32 | Precision::Tf32 => DType::F32,
        Precision::Fp16 => DType::F16,
        Precision::Bf16 => DType::BF16,
    }
}

fn product(epilogue: Option<ScalarFn>) -> Op {
    Op::Contract { a: b"mk".to_vec(), b: b"kn".to_vec(), out: b"mn".to_vec(), epilogue }
}

/// The graph of a product with what follows it.
fn followed(precision: Precision, [m, n, k]: [usize; 3], follows: Follows) -> Option<Graph> {
    let dtype = factor(precision);
    let mut f = ScalarFn::default();
    let (sum, bias) = (f.input(0, DType::F32), f.input(1, DType::F32));
    let mut y = f.binary(Binary::Add, sum, bias);
    let mut b = Builder::default();
    let bytes = |n: usize, dtype: DType| vec![0; n * dtype.bytes()];
    let weights = wpk_build::Literal::dense(dtype, &[k, n], bytes(k * n, dtype));
    let bias = wpk_build::Literal::dense(DType::F32, &[n], bytes(n, DType::F32));
    let mut operands = vec![b.input("x", dtype, &[m, k]), b.constant(weights), b.constant(bias)];
    match follows {
        Follows::Nothing => {}
        Follows::Gelu => y = f.unary(Unary::Gelu, y),
        Follows::Residual => {
            operands.push(b.input("residual", dtype, &[m, n]));
            let residual = f.input(2, dtype);
            let residual = f.cast(residual, DType::F32);
            y = f.binary(Binary::Add, y, residual);
        }
    }
    f.outputs = vec![f.cast(y, dtype)];
    let y = b.one(product(Some(f)), &operands).ok()?;
    b.graph.outputs.push(("y".to_owned(), y));
    Some(b.graph)
}

/// A graph of one operation by constant weights.
fn graph(precision: Precision, x: &[usize], w: &[usize], op: Op) -> Option<Graph> {
    let dtype = factor(precision);
    let mut b = Builder::default();
    let input = b.input("x", dtype, x);
    let bytes = vec![0; w.iter().product::<usize>() * dtype.bytes()];
    let weights = b.constant(wpk_build::Literal::dense(dtype, w, bytes));
    // What is stored has the type of the factors.
    let mut epilogue = ScalarFn::default();
    let sum = epilogue.input(0, DType::F32);
    epilogue.outputs = vec![epilogue.cast(sum, dtype)];
    let op = match op {
        Op::Conv(c) => Op::Conv(Conv { epilogue: Some(epilogue), ..c }),
        Op::Contract { a, b, out, .. } => Op::Contract { a, b, out, epilogue: Some(epilogue) },
        other => other,
    };
    let y = b.one(op, &[input, weights]).ok()?;
    b.graph.outputs.push(("y".to_owned(), y));
    Some(b.graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images of three channels are padded in strict `f32`, by a step of its own.
    #[test]
    fn convolutions_are_contractions() {
        for precision in [Precision::Fp32, Precision::Tf32, Precision::Fp16, Precision::Bf16] {
            let problems = peers(precision, 1);
            assert_eq!(problems.len(), 20);
            assert!(problems.iter().all(|p| matches!(p.1, Problem::Contraction(_))), "{precision:?}");
        }
    }
}
