//! Core operations.

use wpk_plan::problem::{NormKind, ReduceKind, ScatterReduce, WindowDim, WindowKind};
use wpk_plan::{DType, ScalarFn};

/// What a node computes. Shapes are static, so an operation states its result's extents where its inputs do not.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "a variant's text describes its fields")]
pub enum Op {
    /// A scalar function at every point of a shape, inputs broadcast to it.
    Map { function: ScalarFn, shape: Vec<usize> },
    /// The same elements in row-major order under other extents.
    Reshape(Vec<usize>),
    /// The same bits as elements of another type of the same size.
    BitCast(DType),
    /// Dimension `d` of the result is dimension `perm[d]` of the input.
    Transpose(Vec<usize>),
    /// `count[d]` elements from `start[d]` in steps of `step[d]`.
    Slice { start: Vec<usize>, step: Vec<i64>, count: Vec<usize> },
    /// Broadcast to extents.
    Expand(Vec<usize>),
    /// The inputs one after another along a dimension.
    Concat(usize),
    /// Elements of a constant around the input; `fill` as in [`wpk_plan::problem::Move`].
    Pad { before: Vec<usize>, after: Vec<usize>, fill: u64 },
    /// Convolution of input 0 by weights in input 1; further inputs belong to the epilogue.
    Conv(Conv),
    /// Sum of products by einsum labels; inputs from 2 on belong to the epilogue.
    Contract { a: Vec<u8>, b: Vec<u8>, out: Vec<u8>, epilogue: Option<ScalarFn> },
    /// Reduction of the marked dimensions to extent 1.
    Reduce { kind: ReduceKind, axes: Vec<bool> },
    /// Pooling; a second output tells where maxima were found.
    Window { kind: WindowKind, dims: Vec<WindowDim>, count_pad: bool, out: Vec<usize>, indices: bool },
    /// Along the last dimension.
    Softmax { log: bool },
    /// Along the last dimension. Inputs: x, the residual where stated, then scale and bias where stated.
    /// With a residual there is a second output: the sum.
    Normalize { kind: NormKind, epsilon: f64, residual: bool, scale: bool, bias: bool },
    /// Inputs q, k, v of four dimensions (batch, heads, rows, depth), and a mask to add where stated.
    Attention { scale: f64, mask: bool },
    /// Whole slices along a dimension by an index tensor.
    Gather { axis: usize },
    /// Single elements along a dimension.
    GatherElements { axis: usize },
    /// Blocks by index tuples, after some batch dimensions.
    GatherNd { batch: usize },
    /// The inverse of gathering single elements.
    ScatterElements { axis: usize, reduce: ScatterReduce },
    /// The inverse of gathering blocks.
    ScatterNd { reduce: ScatterReduce },
    /// Weighted sums of elements along a dimension: inputs x, indices and weights `[count, taps]`.
    Resample { axis: usize },
    /// Running sums or products.
    Scan { axis: usize, product: bool, exclusive: bool, reverse: bool },
    /// The largest or smallest with their positions.
    TopK { axis: usize, k: usize, largest: bool },
    /// The position of the largest or smallest, at extent 1.
    ArgReduce { axis: usize, largest: bool, last: bool },
    /// An operator of the user's.
    Custom(Box<crate::custom::Call>),
}

/// A convolution over any number of spatial dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Elements from one window to the next.
    pub strides: Vec<usize>,
    /// Elements of padding before the first; negative crops.
    pub pads: Vec<i64>,
    /// Elements between neighbours of the window.
    pub dilations: Vec<usize>,
    /// Groups of channels.
    pub groups: usize,
    /// Whether it is the transpose: weights `[in, out / groups, ...]` instead of `[out, in / groups, ...]`.
    pub transposed: bool,
    /// Spatial extents of the result.
    pub out: Vec<usize>,
    /// Whether channels are the last dimension of input, extras and result instead of the second.
    pub channels_last: bool,
    /// What is stored for a sum: input 0 is the sum, 1 and on the extras.
    pub epilogue: Option<ScalarFn>,
}

impl Conv {
    /// Whether the input has fewer channels than the weights are for, the others being zeros: see the pass `pad_channels`.
    pub fn lacks_channels(&self, x: &[usize], w: &[usize]) -> bool {
        let direct = self.channels_last && self.groups == 1 && !self.transposed;
        direct && x.last().zip(w.get(1)).is_some_and(|(given, wanted)| given < wanted)
    }
}

impl Op {
    /// The operation's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Map { .. } => "map",
            Self::Reshape(_) => "reshape",
            Self::BitCast(_) => "bit_cast",
            Self::Transpose(_) => "transpose",
            Self::Slice { .. } => "slice",
            Self::Expand(_) => "expand",
            Self::Concat(_) => "concat",
            Self::Pad { .. } => "pad",
            Self::Conv(_) => "conv",
            Self::Contract { .. } => "contract",
            Self::Reduce { .. } => "reduce",
            Self::Window { .. } => "window",
            Self::Softmax { .. } => "softmax",
            Self::Normalize { .. } => "normalize",
            Self::Attention { .. } => "attention",
            Self::Gather { .. } => "gather",
            Self::GatherElements { .. } => "gather_elements",
            Self::GatherNd { .. } => "gather_nd",
            Self::ScatterElements { .. } => "scatter_elements",
            Self::ScatterNd { .. } => "scatter_nd",
            Self::Resample { .. } => "resample",
            Self::Scan { .. } => "scan",
            Self::TopK { .. } => "top_k",
            Self::ArgReduce { .. } => "arg_reduce",
            Self::Custom(_) => "custom",
        }
    }

    /// Whether results hold elements of inputs unchanged.
    pub fn moves(&self) -> bool {
        self.is_view()
            || matches!(
                self,
                Self::BitCast(_)
                    | Self::Concat(_)
                    | Self::Pad { .. }
                    | Self::Gather { .. }
                    | Self::GatherElements { .. }
                    | Self::GatherNd { .. }
                    | Self::ScatterElements { reduce: ScatterReduce::None, .. }
                    | Self::ScatterNd { reduce: ScatterReduce::None }
            )
    }

    /// Whether the result holds elements of the input unchanged, by a view of it.
    pub fn is_view(&self) -> bool {
        matches!(self, Self::Reshape(_) | Self::Transpose(_) | Self::Slice { .. } | Self::Expand(_))
    }
}
