//! What the builder simplifies, folds and shares while a graph is made, as text.

use wpk_tests::passes::check;

#[test]
fn an_index_far_outside_is_no_slice() {
    check(
        "input x f32 4
         const i i64 2 = -9223372036854775808 9223372036854775807
         y = Gather(x, i)
         output y",
        "import",
        "input x: f32[4]
         %0: f32[2] = gather axis 0(x, const i64[2])
         output y = %0",
    );
}

/// A mask of keys that an exporter combines with one that is true everywhere, at the extents of the scores.
#[test]
fn what_no_input_tells_apart_is_computed_once() {
    check(
        "input x i64 2x4
         const all bool 1x1x3x4 = 1 1 1 1 1 1 1 1 1 1 1 1
         const shape i64 4 = 2 1 1 4
         const none f32 - = 0
         const least f32 - = -9
         m = Cast(x) to=9
         keys = Reshape(m, shape)
         both = And(all, keys)
         y = Where(both, none, least)
         output y",
        "fuse_maps",
        "input x: i64[2, 4]
         %0: bool[2, 4] = map bool($0)(x)
         %1: bool[2, 1, 1, 4] = reshape(%0)
         %2: f32[2, 1, 1, 4] = map select($0, 0.0, -9.0)(%1)
         %3: f32[2, 1, 3, 4] = expand(%2)
         output y = %3",
    );
}

#[test]
fn shape_subgraphs_fold_at_import() {
    check(
        "input x f32 2x3x4
         s = Shape(x)
         const i i64 1 = 0
         n = Gather(s, i)
         const rest i64 1 = -1
         to = Concat(n, rest) axis=0
         y = Reshape(x, to)
         output y",
        "import",
        "input x: f32[2, 3, 4]
         %0: f32[2, 12] = reshape(x)
         output y = %0",
    );
}

#[test]
fn what_has_no_effect_vanishes() {
    check(
        "input x f32 2x3
         a = Identity(x)
         b = Dropout(a)
         c = Transpose(b) perm=[1,0]
         d = Transpose(c) perm=[1,0]
         const zero f32 - = 0
         e = Add(d, zero)
         y = Relu(e)
         output y",
        "import",
        "input x: f32[2, 3]
         %0: f32[2, 3] = map max($0, 0.0)(x)
         output y = %0",
    );
}

#[test]
fn equal_nodes_are_shared() {
    check(
        "input x f32 4
         a = Exp(x)
         b = Exp(x)
         y = Add(a, b)
         output y",
        "import",
        "input x: f32[4]
         %0: f32[4] = map exp($0)(x)
         %1: f32[4] = map add($0, $0)(%0)
         output y = %1",
    );
}

#[test]
fn dead_code_is_dropped() {
    check(
        "input x f32 4
         unused = Exp(x)
         y = Neg(x)
         output y",
        "widen",
        "input x: f32[4]
         %0: f32[4] = map neg($0)(x)
         output y = %0",
    );
}
