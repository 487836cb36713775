//! Matrix products by cuBLASLt. Its matrices are column-major: the product of row-major ones is asked for transposed, so that its
//! rows are our columns and its bias is along them.

use super::load::{open, symbol};
use crate::Error;
use cudarc::driver::sys::CUstream;
use std::ffi::c_void;
use std::ptr::{from_mut, from_ref, null_mut};
use wpk_plan::DType;
use wpk_plan::library::{Activation, Addend, Call, Form, Library, Linear, MatrixProduct, Stage};

type Handle = *mut c_void;

/// An algorithm, opaque.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Algorithm([u64; 8]);

/// What the heuristic tells of an algorithm.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Found {
    algorithm: Algorithm,
    workspace: usize,
    state: i32,
    waves: f32,
    reserved: [i32; 4],
}

type Create = unsafe extern "C" fn(*mut Handle) -> i32;
type Make = unsafe extern "C" fn(*mut Handle, i32, i32) -> i32;
type MakeLayout = unsafe extern "C" fn(*mut Handle, i32, u64, u64, i64) -> i32;
type Set = unsafe extern "C" fn(Handle, i32, *const c_void, usize) -> i32;
type Destroy = unsafe extern "C" fn(Handle) -> i32;
type Heuristic = unsafe extern "C" fn(Handle, Handle, Handle, Handle, Handle, Handle, Handle, i32, *mut Found, *mut i32) -> i32;
type Init = unsafe extern "C" fn(Handle, i32, i32, i32, i32, i32, i32, i32, *mut Algorithm) -> i32;
type Configure = unsafe extern "C" fn(*mut Algorithm, i32, *const c_void, usize) -> i32;
type Read = unsafe extern "C" fn(*const Algorithm, i32, *mut c_void, usize, *mut usize) -> i32;
type Check = unsafe extern "C" fn(Handle, Handle, Handle, Handle, Handle, Handle, *const Algorithm, *mut Found) -> i32;
type Multiply = unsafe extern "C" fn(
    Handle,
    Handle,
    *const c_void,
    *const c_void,
    Handle,
    *const c_void,
    Handle,
    *const c_void,
    *const c_void,
    Handle,
    *mut c_void,
    Handle,
    *const Algorithm,
    *mut c_void,
    usize,
    CUstream,
) -> i32;

/// The library, opened.
pub struct CublasLt {
    handle: Handle,
    /// The version as the library tells it.
    pub version: u64,
    /// Where it was found.
    pub path: String,
    make: Make,
    make_layout: MakeLayout,
    make_preference: Create,
    set: Set,
    set_layout: Set,
    set_preference: Set,
    destroy: Destroy,
    destroy_layout: Destroy,
    destroy_preference: Destroy,
    heuristic: Heuristic,
    init: Init,
    configure: Configure,
    read: Read,
    check: Check,
    multiply: Multiply,
    _library: libloading::Library,
}

// SAFETY: the library's documentation allows a handle in several threads.
unsafe impl Send for CublasLt {}
// SAFETY: as above.
unsafe impl Sync for CublasLt {}

const NAMES: &[&str] = &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so", "cublasLt64_13.dll", "cublasLt64_12.dll"];
const WHEELS: &[&str] = &["cu13", "cublas"];

// Attributes by the numbers of the header `cublasLt.h`.
const TRANSPOSE_A: i32 = 3;
const EPILOGUE: i32 = 7;
const BIAS_POINTER: i32 = 8;
const BIAS_TYPE: i32 = 26;
const BATCH_COUNT: i32 = 5;
const BATCH_STRIDE: i32 = 6;
const MOST_WORKSPACE: i32 = 1;
const REDUCTIONS: i32 = 3;
/// What an algorithm can be configured to, but for its number.
const KNOBS: [i32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Partial sums stay apart, or meet in the type of sums, in a fixed order.
const FIXED_ORDER: u32 = 2;
const EPILOGUE_RELU: u32 = 2;
const EPILOGUE_BIAS: u32 = 4;
/// Bytes of workspace that a call may take.
const WORKSPACE: usize = 32 << 20;

fn ok(call: &str, status: i32) -> Result<(), Error> {
    if status == 0 { Ok(()) } else { Err(Error::Device(format!("{call}: cuBLASLt status {status}"))) }
}

fn data_type(t: DType) -> Option<i32> {
    match t {
        DType::F32 => Some(0),
        DType::F16 => Some(2),
        DType::BF16 => Some(14),
        _ => None,
    }
}

/// A call as the library takes it: bias and residual by their arguments, and whether what is below zero becomes zero.
struct Shape<'a> {
    product: &'a MatrixProduct,
    bias: Option<&'a Addend>,
    residual: Option<&'a Addend>,
    relu: bool,
}

impl<'a> Shape<'a> {
    /// `None` where the library has no such epilogue or matrices.
    fn of(linear: &'a Linear) -> Option<Self> {
        let Form::Product(product) = &linear.form else { return None };
        let mut shape = Self { product, bias: None, residual: None, relu: false };
        for stage in &linear.epilogue {
            if shape.relu {
                return None;
            }
            match stage {
                Stage::Activate(Activation::Relu) => shape.relu = true,
                Stage::Activate(_) => return None,
                Stage::Add(a) if a.at.strides == [0, 0, 1] && shape.bias.is_none() => shape.bias = Some(a),
                Stage::Add(a) if a.at.strides == product.out.strides && a.dtype == linear.out && shape.residual.is_none() => {
                    shape.residual = Some(a);
                }
                Stage::Add(_) => return None,
            }
        }
        let [_, m, n, k] = product.extents[..] else { return None };
        let unit = |s: i64, extent: i64| s == 1 || extent == 1;
        let rows = unit(product.out.strides[2], n) && (unit(product.x.strides[2], k) || unit(product.x.strides[1], m));
        let columns = unit(product.w.strides[1], k) || unit(product.w.strides[2], n);
        (rows && columns && data_type(linear.out).is_some() && data_type(linear.factors).is_some()).then_some(shape)
    }
}

/// Descriptors of a call; destroyed when dropped.
struct Descriptors<'a> {
    library: &'a CublasLt,
    product: Handle,
    /// First factor (our second), second factor, result.
    layouts: [Handle; 3],
}

impl Drop for Descriptors<'_> {
    fn drop(&mut self) {
        // SAFETY: made by this library, and used by nothing else.
        unsafe {
            (self.library.destroy)(self.product);
            self.layouts.iter().filter(|l| !l.is_null()).for_each(|&l| {
                (self.library.destroy_layout)(l);
            });
        }
    }
}

/// The compute type of sums.
fn compute(linear: &Linear) -> i32 {
    if linear.tf32 { 77 } else { 68 }
}

impl CublasLt {
    /// Finds and opens the library; the device's context is current.
    pub fn open() -> Result<Self, Error> {
        let (library, path) = open(NAMES, WHEELS)?;
        let create: Create = symbol!(library, "cublasLtCreate");
        let version: unsafe extern "C" fn() -> usize = symbol!(library, "cublasLtGetVersion");
        let mut handle = null_mut();
        // SAFETY: both are as the header says.
        let version = unsafe {
            ok("cublasLtCreate", create(&raw mut handle))?;
            version() as u64
        };
        Ok(Self {
            handle,
            version,
            path,
            make: symbol!(library, "cublasLtMatmulDescCreate"),
            make_layout: symbol!(library, "cublasLtMatrixLayoutCreate"),
            make_preference: symbol!(library, "cublasLtMatmulPreferenceCreate"),
            set: symbol!(library, "cublasLtMatmulDescSetAttribute"),
            set_layout: symbol!(library, "cublasLtMatrixLayoutSetAttribute"),
            set_preference: symbol!(library, "cublasLtMatmulPreferenceSetAttribute"),
            destroy: symbol!(library, "cublasLtMatmulDescDestroy"),
            destroy_layout: symbol!(library, "cublasLtMatrixLayoutDestroy"),
            destroy_preference: symbol!(library, "cublasLtMatmulPreferenceDestroy"),
            heuristic: symbol!(library, "cublasLtMatmulAlgoGetHeuristic"),
            init: symbol!(library, "cublasLtMatmulAlgoInit"),
            configure: symbol!(library, "cublasLtMatmulAlgoConfigSetAttribute"),
            read: symbol!(library, "cublasLtMatmulAlgoConfigGetAttribute"),
            check: symbol!(library, "cublasLtMatmulAlgoCheck"),
            multiply: symbol!(library, "cublasLtMatmul"),
            _library: library,
        })
    }

    /// Sets an attribute of a description or a layout.
    fn attribute<T>(&self, set: Set, of: Handle, which: i32, value: &T) -> Result<(), Error> {
        // SAFETY: the value has the type that the header gives for the attribute.
        ok("an attribute of cuBLASLt", unsafe { set(of, which, from_ref(value).cast(), size_of::<T>()) })
    }

    fn describe(&self, linear: &Linear, shape: &Shape<'_>, bias: u64) -> Result<Descriptors<'_>, Error> {
        let mut d = Descriptors { library: self, product: null_mut(), layouts: [null_mut(); 3] };
        // SAFETY: as the header says; the types are those of compute and scale.
        ok("cublasLtMatmulDescCreate", unsafe { (self.make)(&raw mut d.product, compute(linear), 0) })?;
        let (p, [batch, m, n, k]) = (shape.product, [0, 1, 2, 3].map(|i| shape.product.extents[i]));
        // A matrix by rows as the library sees it: whether it is transposed, and between its columns.
        let side = |along: i64, across: i64, width: i64, lines: i64| {
            if along == 1 || width == 1 { (false, if lines == 1 { width } else { across.max(width) }) } else { (true, along.max(lines)) }
        };
        // Our w is k by n, the library's first factor n by k: columns of k contiguous elements are a transposed one.
        let (by_n, w_lead) = side(p.w.strides[1], p.w.strides[2], k, n);
        let (w_transposed, w_rows, w_columns) = if by_n { (false, n, k) } else { (true, k, n) };
        let (by_m, x_lead) = side(p.x.strides[2], p.x.strides[1], k, m);
        let (x_transposed, x_rows, x_columns) = if by_m { (true, m, k) } else { (false, k, m) };
        self.attribute(self.set, d.product, TRANSPOSE_A, &i32::from(w_transposed))?;
        self.attribute(self.set, d.product, TRANSPOSE_A + 1, &i32::from(x_transposed))?;
        let mut epilogue = 1;
        if shape.relu {
            epilogue = EPILOGUE_RELU;
        }
        if shape.bias.is_some() {
            epilogue = EPILOGUE_BIAS | if shape.relu { EPILOGUE_RELU } else { 0 };
            self.attribute(self.set, d.product, BIAS_POINTER, &bias)?;
            self.attribute(self.set, d.product, BIAS_TYPE, &data_type(linear.out).unwrap_or(0))?;
        }
        self.attribute(self.set, d.product, EPILOGUE, &epilogue)?;
        let (factor, out) = (data_type(linear.factors).unwrap_or(0), data_type(linear.out).unwrap_or(0));
        let matrices = [
            (factor, w_rows, w_columns, w_lead, p.w.strides[0]),
            (factor, x_rows, x_columns, x_lead, p.x.strides[0]),
            (out, n, m, if m == 1 { n } else { p.out.strides[1].max(n) }, p.out.strides[0]),
        ];
        for (layout, (dtype, rows, columns, lead, stride)) in d.layouts.iter_mut().zip(matrices) {
            // SAFETY: as the header says.
            ok("cublasLtMatrixLayoutCreate", unsafe { (self.make_layout)(layout, dtype, rows as u64, columns as u64, lead) })?;
            if batch > 1 {
                self.attribute(self.set_layout, *layout, BATCH_COUNT, &(batch as i32))?;
                self.attribute(self.set_layout, *layout, BATCH_STRIDE, &stride)?;
            }
        }
        Ok(d)
    }

    /// The calls that the library's heuristic proposes, at most so many.
    pub fn candidates(&self, linear: &Linear, most: usize) -> Result<Vec<Call>, Error> {
        let Some(shape) = Shape::of(linear) else { return Ok(vec![]) };
        let d = self.describe(linear, &shape, 16)?;
        let mut preference = null_mut();
        // SAFETY: as the header says.
        ok("cublasLtMatmulPreferenceCreate", unsafe { (self.make_preference)(&raw mut preference) })?;
        let set = self
            .attribute(self.set_preference, preference, MOST_WORKSPACE, &WORKSPACE)
            .and_then(|()| self.attribute(self.set_preference, preference, REDUCTIONS, &FIXED_ORDER));
        let mut found = vec![Found::default(); most];
        let mut count = 0;
        let [a, b, c] = d.layouts;
        // SAFETY: `found` has room for as many as are asked for.
        let status =
            unsafe { (self.heuristic)(self.handle, d.product, a, b, c, c, preference, most as i32, found.as_mut_ptr(), &raw mut count) };
        // SAFETY: made above.
        unsafe { (self.destroy_preference)(preference) };
        set?;
        if status != 0 {
            return Ok(vec![]);
        }
        found.truncate(count as usize);
        Ok(found.iter().filter(|f| f.state == 0).filter_map(|f| self.frozen(linear, f)).collect())
    }

    fn value(&self, algorithm: &Algorithm, which: i32) -> Option<i64> {
        // Some are of 16 bits, some of 32.
        let (mut value, mut written) = (0u32, 0);
        for size in [4, 2] {
            // SAFETY: there is room for as many bytes as are said.
            if unsafe { (self.read)(algorithm, which, from_mut(&mut value).cast(), size, &raw mut written) } == 0 {
                return Some(i64::from(value));
            }
        }
        None
    }

    fn frozen(&self, linear: &Linear, found: &Found) -> Option<Call> {
        let knobs = KNOBS.iter().filter_map(|&w| Some((i64::from(w), self.value(&found.algorithm, w)?))).collect();
        let engine = self.value(&found.algorithm, 0)?;
        Some(Call { library: Library::CublasLt, version: self.version, linear: linear.clone(), engine, knobs, workspace: found.workspace })
    }

    /// The argument that is read in another type than it is given: the bias, in that of the result.
    pub fn converted(linear: &Linear) -> Option<(usize, DType)> {
        let bias = Shape::of(linear)?.bias?;
        (bias.dtype != linear.out).then_some((bias.arg as usize, linear.out))
    }

    /// Gives a stream a call; the last pointer is the result's, and the workspace is large enough.
    pub fn run(&self, call: &Call, pointers: &[u64], workspace: u64, stream: CUstream) -> Result<(), Error> {
        let unknown = || Error::Device("cuBLASLt has no such call".to_owned());
        let linear = &call.linear;
        let shape = Shape::of(linear).ok_or_else(unknown)?;
        let size = |t: DType| t.bytes() as u64;
        let at = |arg: usize, offset: i64, t: DType| Some(pointers.get(arg)? + offset as u64 * size(t));
        let bias = shape.bias.map_or(Some(0), |b| at(b.arg as usize, b.at.offset, linear.out)).ok_or_else(unknown)?;
        let d = self.describe(linear, &shape, bias)?;
        let [a, b, c] = d.layouts;
        let (factor, out) = (data_type(linear.factors).unwrap_or(0), data_type(linear.out).unwrap_or(0));
        let mut algorithm = Algorithm::default();
        // SAFETY: as the header says; values have the sizes that were read.
        unsafe {
            let engine = call.engine as i32;
            ok(
                "cublasLtMatmulAlgoInit",
                (self.init)(self.handle, compute(linear), 0, factor, factor, out, out, engine, &raw mut algorithm),
            )?;
            for &(which, value) in &call.knobs {
                let value = value as u32;
                let mut set = |size| (self.configure)(&raw mut algorithm, which as i32, from_ref(&value).cast(), size);
                if set(4) != 0 {
                    ok("cublasLtMatmulAlgoConfigSetAttribute", set(2))?;
                }
            }
            let mut found = Found::default();
            ok("cublasLtMatmulAlgoCheck", (self.check)(self.handle, d.product, a, b, c, c, &raw const algorithm, &raw mut found))?;
            if found.workspace > call.workspace {
                return Err(Error::Device("cuBLASLt needs more memory than when the call was chosen".to_owned()));
            }
        }
        let p = shape.product;
        let x = at(0, p.x.offset, linear.factors).ok_or_else(unknown)?;
        let w = at(1, p.w.offset, linear.factors).ok_or_else(unknown)?;
        let y = at(pointers.len() - 1, p.out.offset, linear.out).ok_or_else(unknown)?;
        let residual = shape.residual.map_or(Some(y), |r| at(r.arg as usize, r.at.offset, r.dtype)).ok_or_else(unknown)?;
        let (alpha, beta) = (1.0f32, if shape.residual.is_some() { 1.0f32 } else { 0.0 });
        // SAFETY: device memory of the step's operands, as large as the plan was verified to have.
        let status = unsafe {
            let pointer = |p: u64| p as *const c_void;
            (self.multiply)(
                self.handle,
                d.product,
                from_ref(&alpha).cast(),
                pointer(w),
                a,
                pointer(x),
                b,
                from_ref(&beta).cast(),
                pointer(residual),
                c,
                pointer(y).cast_mut(),
                c,
                &raw const algorithm,
                workspace as *mut c_void,
                call.workspace,
                stream,
            )
        };
        ok("cublasLtMatmul", status)
    }
}
