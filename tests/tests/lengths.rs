//! What is computed from sizes that are known at run time only, and what begins or ends where they say: decoders with a cache of any length.

use wpk_plan::DType;
use wpk_tests::ranges::{check, compile, load, values};

#[test]
fn the_size_itself_is_a_number() {
    check(
        "input x f32 nx4
         const zero i64 - = 0
         const one i64 - = 1
         shape = Shape(x)
         f = Cast(shape) to=1
         n = Gather(f, zero)
         y = Div(x, n)
         i = Gather(shape, zero)
         r = Range(zero, i, one)
         s = ReduceSum(r) keepdims=0
         const begin i64 1 = 0
         const end i64 1 = 1
         part = Slice(shape, begin, end)
         only = Squeeze(part)
         same = Range(zero, only, one)
         p = ReduceProd(same) keepdims=0
         next = Add(i, one)
         here = Range(i, next, one)
         const two i64 - = 2
         half = Div(i, two)
         output y
         output s
         output p
         output here
         output half
         output shape",
    );
    // What is repeated as often as a size says exists as often.
    check(
        "input x f32 nx4
         input z f32 1
         const zero i64 - = 0
         const column i64 1 = 4
         shape = Shape(x)
         ones = ConstantOfShape(shape)
         o = Exp(ones)
         wide = Expand(z, shape)
         s = ReduceSum(o) keepdims=0
         t = ReduceSum(wide) keepdims=0
         output s
         output t",
    );
}

#[test]
fn extents_of_a_request_given_back() {
    check(
        "input x f32 nx2x3x3
         const from i64 1 = 0
         const to i64 1 = 2
         const image i64 2 = 6 6
         const flat i64 2 = 0 -1
         shape = Shape(x)
         kept = Slice(shape, from, to)
         sizes = Concat(kept, image) axis=0
         y = Resize(x,,,sizes)
         const four i64 4 = 1 1 2 1
         t = Tile(x, four)
         rows = Gather(shape, from)
         const one i64 3 = 1 1 1
         times = Concat(rows, one) axis=0
         const w f32 1x2x3x3 random
         many = Tile(w, times)
         z = Add(x, many)
         output y
         output t
         output z",
    );
}

#[test]
fn two_indices_written_as_one() {
    // Row i, column j of a flattened matrix: i times the size, and j.
    check(
        "input x f32 3xn
         const zero i64 - = 0
         const one i64 - = 1
         const rows i64 3x1 = 0 1 2
         const flat i64 1 = -1
         shape = Shape(x)
         n = Gather(shape, one)
         columns = Range(zero, n, one)
         first = Mul(rows, n)
         at = Add(first, columns)
         f = Reshape(x, flat)
         y = Gather(f, at)
         m = ReduceMax(y) axes=[1]
         output y
         output m",
    );
    check(
        "input x f32 nx3\ninput i f32 nx2\na = Abs(i)\nj = Cast(a) to=7\nconst v f32 9x4 random\ny = Gather(v, j)\nz = ReduceSum(y)\noutput y\noutput z",
    );
}

#[test]
fn ranges_from_the_end() {
    check(
        "input x f32 nx4
         const last i64 1 = -1
         const far i64 1 = 9223372036854775807
         const back i64 1 = -9223372036854775807
         const none i64 1 = 0
         const minus i64 - = -1
         a = Slice(x, last, far, none)
         b = Slice(x, last, back, none, last)
         c = Gather(x, minus) axis=0
         shape = Shape(x)
         n = Gather(shape, none)
         const one i64 1 = 1
         before = Sub(n, one)
         d = Gather(x, before) axis=0
         j = Concat(x, a) axis=0
         e = Slice(j, one, far, none)
         output a
         output b
         output c
         output d
         output e",
    );
}

#[test]
fn what_is_joined_begins_where_the_other_ends() {
    check(
        "input x f32 2xnx3\ninput z f32 2x1x3\ninput u f32 2xnx3\ny = Concat(x, z, u) axis=1\ns = ReduceSum(y) keepdims=0\noutput y\noutput s",
    );
    check("input x f32 2xnx3\ninput z f32 2x2x3\ny = Concat(z, x) axis=1\nm = ReduceMean(y) axes=[1]\noutput y\noutput m");
}

/// One step of a decoder: its position, its keys behind those of the cache, and a mask of both.
const STEP: &str = "input x f32 1x2x1x4
     input keys f32 1x2xnx4
     input values f32 1x2xnx4
     input mask i64 1xn+1
     const places f32 16x4 random
     const w f32 4x4 random
     const two i64 - = 2
     const one i64 - = 1
     const none i64 - = 0
     const shape i64 4 = 1 1 1 -1
     const low f32 - = -1000
     const zero f32 - = 0
     s = Shape(keys)
     past = Gather(s, two)
     p = Gather(places, past)
     h = Add(x, p)
     k = MatMul(h, w)
     allkeys = Concat(keys, k) axis=2
     allvalues = Concat(values, h) axis=2
     t = Transpose(allkeys) perm=[0,1,3,2]
     scores = MatMul(h, t)
     total = Add(past, one)
     seen = Range(none, total, one)
     causal = LessOrEqual(seen, past)
     given = Cast(mask) to=9
     both = And(given, causal)
     four = Reshape(both, shape)
     bias = Where(four, zero, low)
     biased = Add(scores, bias)
     weights = Softmax(biased) axis=-1
     y = MatMul(weights, allvalues)
     output y
     output allkeys
     output allvalues";

#[test]
fn a_decoder_with_a_cache_of_any_length() {
    check(STEP);
    let compiled = compile(STEP, |m| m.range("n", 0..=7)).unwrap_or_else(|e| panic!("{e}"));
    let model = load(&compiled);
    let call = |n: usize, m: usize| {
        let (x, cache, mask) = (
            values(DType::F32, 1, 8),
            values(DType::F32, 2, 8 * n),
            vec![1i64; m].iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<_>>(),
        );
        let given: [(&[usize], &[u8]); 4] = [(&[1, 2, 1, 4], &x), (&[1, 2, n, 4], &cache), (&[1, 2, n, 4], &cache), (&[1, m], &mask)];
        model.run_dynamic(&given).map(|r| r.into_iter().map(|r| r.0).collect::<Vec<_>>()).map_err(|e| e.to_string())
    };
    for n in [0, 3, 7] {
        assert_eq!(call(n, n + 1), Ok(vec![vec![1, 2, 1, 4], vec![1, 2, n + 1, 4], vec![1, 2, n + 1, 4]]));
    }
    for (n, m, told) in
        [(3, 3, "input \"mask\", dimension \"n + 1\": expected 4, found 3"), (8, 9, "dimension \"n\": expected 0 to 7, found 8")]
    {
        assert!(call(n, m).is_err_and(|e| e.contains(told)), "{:?}", call(n, m));
    }
}

/// Shapes are checked before rules for what does not exist look at dimensions.
#[test]
fn shapes_that_do_not_fit_are_errors() {
    for (model, told) in [
        ("input x f32 2xnx3\ninput z f32 4\ny = Concat(x, z) axis=1\noutput y", "Concat: "),
        ("input x f32 2xnx3xn\ninput z f32 4\ny = Einsum(x, z) equation=\"ab,b->a\"\noutput y", "Einsum: "),
    ] {
        let error = compile(model, |m| m.range("n", 1..=7)).err();
        assert!(error.as_ref().is_some_and(|e| e.contains(told)), "{error:?}");
    }
}
