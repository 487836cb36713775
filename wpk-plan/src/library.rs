//! Calls of vendor libraries that stand in for a generated kernel: what they compute in the libraries' own terms, and by which
//! algorithm. Offsets and strides count elements.

use crate::DType;
use crate::codec::{codec_enum, codec_struct, unit_enum};

unit_enum! {
    /// A vendor's library.
    Library {
        /// Matrix products.
        CublasLt = "cublaslt",
        /// Graphs of convolutions, matrix products and what follows them.
        Cudnn = "cudnn",
    }
}

/// A frozen call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Of which library.
    pub library: Library,
    /// The library's version as it tells it; another version is another library.
    pub version: u64,
    /// What is computed.
    pub linear: Linear,
    /// The algorithm (cuBLASLt) or engine (cuDNN).
    pub engine: i64,
    /// What the algorithm is configured to, by the library's numbers.
    pub knobs: Vec<(i64, i64)>,
    /// Bytes that it needs beside its operands.
    pub workspace: usize,
}
codec_struct!(Call { library, version, linear, engine, knobs, workspace });

/// A sum of products and what follows it. Its operands are those of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// The type of both factors.
    pub factors: DType,
    /// Whether factors of type `f32` may be rounded to TF32.
    pub tf32: bool,
    /// The type of the result.
    pub out: DType,
    /// Which sum.
    pub form: Form,
    /// What happens to it, in order.
    pub epilogue: Vec<Stage>,
}
codec_struct!(Linear { factors, tf32, out, form, epilogue });

/// A sum of products.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// `out[b, m, n] = sum over k of x[b, m, k] * w[b, k, n]`
    Product(MatrixProduct),
    /// `y[n, k, p, q] = sum over c, r, s of x[n, c, h, w] * w[k, c, r, s]`
    Convolution(Convolution),
}
codec_enum!(Form { 0 => Product(p), 1 => Convolution(c) });

/// A batched matrix product.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixProduct {
    /// Batch, m, n, k.
    pub extents: Vec<i64>,
    /// The first factor over batch, m, k.
    pub x: Strided,
    /// The second over batch, k, n.
    pub w: Strided,
    /// The result over batch, m, n.
    pub out: Strided,
}
codec_struct!(MatrixProduct { extents, x, w, out });

/// A convolution over two spatial dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Convolution {
    /// N, C, H, W, K, R, S, P, Q.
    pub extents: Vec<i64>,
    /// The images over N, C, H, W.
    pub x: Strided,
    /// The filters over K, C, R, S.
    pub w: Strided,
    /// The result over N, K, P, Q.
    pub out: Strided,
    /// Rows and columns of zeros before the image.
    pub before: Vec<i64>,
    /// After it.
    pub after: Vec<i64>,
    /// Between windows.
    pub strides: Vec<i64>,
    /// Between the elements of a window.
    pub dilations: Vec<i64>,
}
codec_struct!(Convolution { extents, x, w, out, before, after, strides, dilations });

/// Where a tensor's elements lie in its argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strided {
    /// Of the first element.
    pub offset: i64,
    /// By dimension.
    pub strides: Vec<i64>,
}
codec_struct!(Strided { offset, strides });

/// A step of an epilogue.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// An argument is added.
    Add(Addend),
    /// An activation.
    Activate(Activation),
}
codec_enum!(Stage { 0 => Add(a), 1 => Activate(a) });

/// What is added to a sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Addend {
    /// Its number among the step's arguments.
    pub arg: u32,
    /// Its type.
    pub dtype: DType,
    /// Its strides over the dimensions of the result, zero where it is the same for all.
    pub at: Strided,
}
codec_struct!(Addend { arg, dtype, at });

unit_enum! {
    /// A function that libraries know.
    Activation {
        /// `max(x, 0)`
        Relu = "relu",
        /// `min(max(x, 0), 6)`
        Relu6 = "relu6",
        /// `x/2 (1 + erf(x/sqrt 2))`
        Gelu = "gelu",
        /// GELU by its tanh approximation.
        GeluTanh = "gelu_tanh",
        /// `x sigmoid(x)`
        Silu = "silu",
        /// `1 / (1 + e^-x)`
        Sigmoid = "sigmoid",
        /// Hyperbolic tangent.
        Tanh = "tanh",
    }
}

impl Linear {
    /// The extents of the result, by the dimensions of its strides.
    pub fn extents(&self) -> Vec<i64> {
        match &self.form {
            Form::Product(p) => p.extents[..3].to_vec(),
            Form::Convolution(c) => [0, 4, 7, 8].map(|i| c.extents[i]).to_vec(),
        }
    }

    /// Where the result lies.
    pub fn out(&self) -> &Strided {
        match &self.form {
            Form::Product(p) => &p.out,
            Form::Convolution(c) => &c.out,
        }
    }
}
