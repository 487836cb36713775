//! What libraries are asked for is what the problem says: both evaluated one product after the other.

mod support;

use support::contractions::{convolution, product};
use support::{Random, packed};
use wpk_kernels::library::linear;
use wpk_kernels::{Data, Rounding, Tensor, eval};
use wpk_plan::library::{Activation, Form, Linear, Stage, Strided};
use wpk_plan::problem::{Contraction, Problem};
use wpk_plan::{DType, WeightLayout};

/// Every index into some extents, the last fastest.
fn points(extents: &[i64]) -> Vec<Vec<i64>> {
    extents.iter().fold(vec![vec![]], |all, &n| all.into_iter().flat_map(|p| (0..n).map(move |i| [p.clone(), vec![i]].concat())).collect())
}

fn at(s: &Strided, point: &[i64]) -> usize {
    (s.offset + s.strides.iter().zip(point).map(|(s, x)| s * x).sum::<i64>()) as usize
}

/// The sum behind one result.
fn sum(form: &Form, x: &Tensor, w: &Tensor, point: &[i64]) -> f64 {
    match form {
        Form::Product(p) => {
            let [b, m, n] = point[..] else { panic!("a point of a product") };
            (0..p.extents[3]).map(|k| x.f(at(&p.x, &[b, m, k])) * w.f(at(&p.w, &[b, k, n]))).sum()
        }
        Form::Convolution(c) => {
            let [n, k, p, q] = point[..] else { panic!("a point of a convolution") };
            let [channels, h, v, r, s] = [1, 2, 3, 5, 6].map(|i| c.extents[i]);
            let taps = points(&[channels, r, s]).into_iter().map(|t| {
                let place =
                    [p * c.strides[0] + t[1] * c.dilations[0] - c.before[0], q * c.strides[1] + t[2] * c.dilations[1] - c.before[1]];
                let inside = (0..h).contains(&place[0]) && (0..v).contains(&place[1]);
                if inside { x.f(at(&c.x, &[n, t[0], place[0], place[1]])) * w.f(at(&c.w, &[k, t[0], t[1], t[2]])) } else { 0.0 }
            });
            taps.sum()
        }
    }
}

fn evaluate(linear: &Linear, arguments: &[Tensor], len: usize) -> Vec<f64> {
    let mut out = vec![0.0; len];
    for point in points(&linear.extents()) {
        let mut value = sum(&linear.form, &arguments[0], &arguments[1], &point);
        for stage in &linear.epilogue {
            value = match stage {
                Stage::Add(a) => value + arguments[a.arg as usize].f(at(&a.at, &point)),
                Stage::Activate(Activation::Relu) => value.max(0.0),
                Stage::Activate(other) => panic!("{other:?} is in no case"),
            };
        }
        out[at(linear.out(), &point)] = value;
    }
    out
}

/// Whether libraries know a contraction, which they then compute as the evaluator does.
fn check(c: &Contraction, layout: WeightLayout, seed: u64) -> bool {
    let problem = Problem::Contraction(c.clone());
    let Some(linear) = linear(&problem, layout) else { return false };
    let r = &mut Random(seed);
    let random = |o: wpk_plan::problem::Operand| {
        let n = o.view.span().map_or(0, |s| s.1);
        let data = Data::Float((0..n).map(|_| r.within(0, 8) as f64 - 4.0).collect());
        Tensor { dtype: o.dtype, data }
    };
    let mut tensors: Vec<Tensor> = problem.inputs().into_iter().map(random).collect();
    let expected = eval(&problem, &tensors.iter().collect::<Vec<_>>(), Rounding::Never).remove(0);
    tensors[1] = Tensor::from_bytes(c.dtype, &packed(c, layout, &tensors[1].to_bytes()));
    let found = evaluate(&linear, &tensors, expected.len());
    for i in c.out.view.offsets() {
        assert!(
            (found[i] - expected.f(i)).abs() < 1e-9,
            "seed {seed}, {layout:?}: {} instead of {} at {i}; {linear:?}",
            found[i],
            expected.f(i)
        );
    }
    true
}

#[test]
fn calls_compute_what_problems_say() {
    let layouts = [WeightLayout::Dense, WeightLayout::Columns];
    let (mut products, mut convolutions) = (0, 0);
    for seed in 0..120 {
        let (layout, r) = (layouts[seed as usize % 2], &mut Random(seed));
        products += usize::from(check(&product(r, (DType::F16, false)), layout, seed));
        convolutions += usize::from(check(&convolution(r, (DType::F16, false)), layout, seed));
    }
    // Transposed convolutions and some of few channels are no calls.
    assert_eq!((products, convolutions), (120, 67));
}
