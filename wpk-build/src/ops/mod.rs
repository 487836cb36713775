//! ONNX operators: one file each, one row each in the table below.
//!
//! An operator's file reads its attributes and builds core operations ([`crate::graph::Op`]); type inference, folding,
//! evaluation and lowering follow from those. The importer, the list of supported operators and the documentation derive
//! from the table.

mod abs;
mod acos;
mod acosh;
mod add;
mod affine_grid;
mod and_;
mod arg_max;
mod arg_min;
mod asin;
mod asinh;
mod atan;
mod atanh;
mod attention;
mod average_pool;
mod batch_normalization;
mod bernoulli;
mod bit_cast;
mod bit_shift;
mod bitwise_and;
mod bitwise_not;
mod bitwise_or;
mod bitwise_xor;
mod blackman_window;
mod cast;
mod cast_like;
mod causal_conv_with_state;
mod ceil;
mod celu;
mod center_crop_pad;
mod clip;
mod col2_im;
mod compress;
mod concat;
mod concat_from_sequence;
mod constant;
mod constant_of_shape;
mod context;
mod conv;
mod conv_integer;
mod conv_transpose;
mod cos;
mod cosh;
pub mod counted;
mod cum_prod;
mod cum_sum;
mod deform_conv;
mod depth_to_space;
mod dequantize_linear;
mod det;
mod dft;
mod div;
mod dropout;
mod dynamic_quantize_linear;
mod einsum;
mod elu;
mod equal;
mod erf;
mod exp;
mod expand;
mod eye_like;
mod flatten;
mod floor;
mod fourier;
mod gather;
mod gather_elements;
mod gather_nd;
mod gelu;
mod gemm;
mod global_average_pool;
mod global_lp_pool;
mod global_max_pool;
mod gradient;
mod greater;
mod greater_or_equal;
mod grid_sample;
mod group_normalization;
mod gru;
mod hamming_window;
mod hann_window;
mod hard_sigmoid;
mod hard_swish;
mod hardmax;
mod identity;
mod if_;
mod instance_normalization;
mod is_inf;
mod is_nan;
mod layer_normalization;
mod leaky_relu;
mod less;
mod less_or_equal;
mod linear_attention;
mod log;
mod log_softmax;
mod loop_;
mod lp_normalization;
mod lp_pool;
mod lrn;
mod lstm;
mod mat_mul;
mod mat_mul_integer;
mod max;
mod max_pool;
mod max_unpool;
mod mean;
mod mean_variance_normalization;
mod mel_weight_matrix;
mod min;
mod mish;
mod mod_;
mod ms_bias_gelu;
mod ms_fast_gelu;
mod ms_fused_mat_mul;
mod ms_gelu;
mod ms_mat_mul_n_bits;
mod ms_multi_head_attention;
mod ms_quick_gelu;
mod ms_skip_layer_normalization;
mod ms_skip_simplified_layer_normalization;
mod mul;
mod neg;
mod negative_log_likelihood_loss;
mod non_max_suppression;
mod non_zero;
mod not;
mod one_hot;
mod optional_has_element;
mod or_;
mod p_relu;
mod pad;
mod pointwise;
mod pow;
mod q_linear_conv;
mod q_linear_mat_mul;
mod quantize_linear;
mod random;
mod random_normal;
mod random_normal_like;
mod random_uniform;
mod random_uniform_like;
mod range;
mod reciprocal;
mod recurrent;
mod reduce_l1;
mod reduce_l2;
mod reduce_log_sum;
mod reduce_log_sum_exp;
mod reduce_max;
mod reduce_mean;
mod reduce_min;
mod reduce_prod;
mod reduce_sum;
mod reduce_sum_square;
mod reducing;
mod relu;
mod resampling;
mod reshape;
mod resize;
mod reverse_sequence;
mod rms_normalization;
mod rnn;
mod roi_align;
mod rotary_embedding;
mod round;
mod sampling;
mod scan;
mod scatter;
mod scatter_elements;
mod scatter_nd;
mod selu;
mod sequence_at;
mod sequence_construct;
mod sequence_empty;
mod sequence_erase;
mod sequence_insert;
mod sequence_length;
mod shape;
mod shrink;
mod sigmoid;
mod sign;
mod simplified_layer_normalization;
mod sin;
mod sinh;
mod size;
mod skipping;
mod slice;
mod softmax;
mod softmax_cross_entropy_loss;
mod softplus;
mod softsign;
mod space_to_depth;
mod spatial;
mod split;
mod split_to_sequence;
mod sqrt;
mod squeeze;
mod stft;
mod string_normalizer;
mod sub;
mod sum;
mod swish;
mod tan;
mod tanh;
mod tensor_scatter;
mod thresholded_relu;
mod tile;
mod top_k;
mod transpose;
mod trilu;
mod unique;
mod unsqueeze;
mod upsample;
mod where_;
mod windowing;
mod xor;

pub use context::{Context, Imported, Refusal};

/// An ONNX operator.
pub struct OpDef {
    /// Its name, behind `domain::` where that is not the default.
    pub name: &'static str,
    /// Builds core operations for one node.
    pub import: fn(&mut Context<'_>) -> Imported,
}

macro_rules! op_table {
    ($($module:ident),* $(,)?) => {
        /// Every supported operator, by module name.
        pub const TABLE: &[&OpDef] = &[$(&$module::OP),*];
    };
}

op_table! {
    abs,
    acos,
    acosh,
    add,
    affine_grid,
    and_,
    arg_max,
    arg_min,
    asin,
    asinh,
    atan,
    atanh,
    attention,
    average_pool,
    batch_normalization,
    bernoulli,
    bit_cast,
    bit_shift,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    blackman_window,
    cast,
    cast_like,
    causal_conv_with_state,
    ceil,
    celu,
    center_crop_pad,
    clip,
    col2_im,
    compress,
    concat,
    concat_from_sequence,
    constant,
    constant_of_shape,
    conv,
    conv_integer,
    conv_transpose,
    cos,
    cosh,
    cum_prod,
    cum_sum,
    deform_conv,
    depth_to_space,
    dequantize_linear,
    det,
    dft,
    div,
    dropout,
    dynamic_quantize_linear,
    einsum,
    elu,
    equal,
    erf,
    exp,
    expand,
    eye_like,
    flatten,
    floor,
    gather,
    gather_elements,
    gather_nd,
    gelu,
    gemm,
    global_average_pool,
    global_lp_pool,
    global_max_pool,
    gradient,
    greater,
    greater_or_equal,
    grid_sample,
    group_normalization,
    gru,
    hamming_window,
    hann_window,
    hard_sigmoid,
    hard_swish,
    hardmax,
    identity,
    if_,
    instance_normalization,
    is_inf,
    is_nan,
    layer_normalization,
    leaky_relu,
    less,
    less_or_equal,
    linear_attention,
    log,
    log_softmax,
    loop_,
    lp_normalization,
    lp_pool,
    lrn,
    lstm,
    mat_mul,
    mat_mul_integer,
    max,
    max_pool,
    max_unpool,
    mean,
    mean_variance_normalization,
    mel_weight_matrix,
    min,
    mish,
    mod_,
    ms_bias_gelu,
    ms_fast_gelu,
    ms_fused_mat_mul,
    ms_gelu,
    ms_mat_mul_n_bits,
    ms_multi_head_attention,
    ms_quick_gelu,
    ms_skip_layer_normalization,
    ms_skip_simplified_layer_normalization,
    mul,
    neg,
    negative_log_likelihood_loss,
    non_max_suppression,
    non_zero,
    not,
    one_hot,
    optional_has_element,
    or_,
    p_relu,
    pad,
    pow,
    q_linear_mat_mul,
    q_linear_conv,
    quantize_linear,
    random_normal,
    random_normal_like,
    random_uniform,
    random_uniform_like,
    range,
    reciprocal,
    reduce_l1,
    reduce_l2,
    reduce_log_sum,
    reduce_log_sum_exp,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_prod,
    reduce_sum,
    reduce_sum_square,
    relu,
    reshape,
    resize,
    reverse_sequence,
    rms_normalization,
    rnn,
    roi_align,
    rotary_embedding,
    round,
    scan,
    scatter,
    scatter_elements,
    scatter_nd,
    selu,
    sequence_at,
    sequence_construct,
    sequence_empty,
    sequence_erase,
    sequence_insert,
    sequence_length,
    shape,
    shrink,
    sigmoid,
    sign,
    simplified_layer_normalization,
    sin,
    sinh,
    size,
    slice,
    softmax,
    softmax_cross_entropy_loss,
    softplus,
    softsign,
    space_to_depth,
    split,
    split_to_sequence,
    sqrt,
    squeeze,
    stft,
    string_normalizer,
    sub,
    sum,
    swish,
    tan,
    tanh,
    tensor_scatter,
    thresholded_relu,
    tile,
    top_k,
    transpose,
    trilu,
    unique,
    unsqueeze,
    upsample,
    where_,
    xor,
}

/// The operator of that name.
pub fn find(name: &str) -> Option<&'static OpDef> {
    TABLE.iter().copied().find(|op| op.name == name)
}
