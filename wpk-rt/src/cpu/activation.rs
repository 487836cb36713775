//! The simple end of a sum: a vector, a tensor and an activation, in one pass without branches.

use super::isa::{dispatch, lanes};
use super::microkernel::STRIDE;
use super::simd::Lanes;
use super::{functions, math};
use wpk_plan::problem::PANEL;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Activation {
    None,
    Clamp(f32, f32),
    Gelu,
    GeluTanh,
    Silu,
    Sigmoid,
    Tanh,
    HardSwish,
}

dispatch! {
    /// Rows of a tile: sums, a vector along the columns and a tensor to add where they are not null, with where its rows begin; what is
    /// stored, where its rows begin, and how many columns.
    ///
    /// # Safety
    /// Everything that is not null must be valid for that.
    pub(super) unsafe fn finish(tile: *const f32, bias: *const f32, residual: *const f32, theirs: &[u32], activation: Activation, to: *mut f32, own: &[u32], n: usize) = finish_body
}

#[inline(always)]
unsafe fn finish_body(
    tile: *const f32,
    bias: *const f32,
    residual: *const f32,
    theirs: &[u32],
    activation: Activation,
    to: *mut f32,
    own: &[u32],
    n: usize,
) {
    let operands = Operands { tile, bias, residual, theirs, to, own, n };
    // Everything that does not change within the tile is decided here, so that the loops inside have no branches.
    unsafe {
        match activation {
            Activation::None => operands.apply(|x| x),
            Activation::Clamp(low, high) => operands.apply(|x| {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            }),
            Activation::Gelu => by_lanes()[0](&operands),
            Activation::GeluTanh => operands.apply(math::gelu_tanh),
            Activation::Silu => by_lanes()[2](&operands),
            Activation::Sigmoid => by_lanes()[3](&operands),
            Activation::Tanh => operands.apply(math::tanh),
            Activation::HardSwish => by_lanes()[1](&operands),
        }
    }
}

struct Operands<'a> {
    tile: *const f32,
    bias: *const f32,
    residual: *const f32,
    theirs: &'a [u32],
    to: *mut f32,
    own: &'a [u32],
    n: usize,
}

impl Operands<'_> {
    #[inline(always)]
    unsafe fn apply(&self, f: impl Fn(f32) -> f32) {
        unsafe {
            match (self.bias.is_null(), self.residual.is_null()) {
                (true, true) => self.rows::<false, false>(f),
                (false, true) => self.rows::<true, false>(f),
                (true, false) => self.rows::<false, true>(f),
                (false, false) => self.rows::<true, true>(f),
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<const BIAS: bool, const RESIDUAL: bool>(&self, f: impl Fn(f32) -> f32) {
        for (r, (&own, &theirs)) in self.own.iter().zip(self.theirs).enumerate() {
            unsafe {
                let (sums, to) = (self.tile.add(r * STRIDE), self.to.add(own as usize));
                let bias = self.bias;
                let residual = self.residual.wrapping_add(theirs as usize);
                let whole = self.n / PANEL * PANEL;
                for at in (0..whole).step_by(PANEL) {
                    vector::<BIAS, RESIDUAL>(
                        sums.add(at).cast(),
                        bias.wrapping_add(at).cast(),
                        residual.wrapping_add(at).cast(),
                        to.add(at).cast(),
                        &f,
                    );
                }
                for at in whole..self.n {
                    let mut x = *sums.add(at);
                    if BIAS {
                        x += *bias.add(at);
                    }
                    if RESIDUAL {
                        x += *residual.add(at);
                    }
                    to.add(at).write(f(x));
                }
            }
        }
    }
}

/// A function of what a tile's end works on.
type End = unsafe fn(&Operands<'_>);

/// GELU, HardSwish, SiLU and the logistic function of this machine's lanes.
fn by_lanes() -> [End; 4] {
    macro_rules! compiled {
        ($V:ty $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn gelu(operands: &Operands<'_>) {
                unsafe { operands.lanes::<$V>(|x| functions::gelu(x)) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn hard_swish(operands: &Operands<'_>) {
                unsafe { operands.lanes::<$V>(|x| functions::hard_swish(x)) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn silu(operands: &Operands<'_>) {
                unsafe { operands.lanes::<$V>(|x| functions::silu(x)) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn sigmoid(operands: &Operands<'_>) {
                unsafe { operands.lanes::<$V>(|x| functions::sigmoid(x)) }
            }
            [gelu, hard_swish, silu, sigmoid]
        }};
    }
    lanes!(compiled)
}

impl Operands<'_> {
    /// The same for a function of sixteen lanes.
    #[inline(always)]
    unsafe fn lanes<V: Lanes>(&self, f: impl Fn(V) -> V) {
        unsafe {
            let one = V::splat(1.0);
            for (r, (&own, &theirs)) in self.own.iter().zip(self.theirs).enumerate() {
                let (sums, to) = (self.tile.add(r * STRIDE), self.to.add(own as usize));
                for at in (0..self.n).step_by(PANEL) {
                    let left = self.n - at;
                    let mut x = V::load(sums.add(at));
                    for (more, from) in [(self.bias, at), (self.residual, theirs as usize + at)] {
                        if !more.is_null() {
                            x = x.mul_add(some(more.add(from), left), one);
                        }
                    }
                    let y = f(x);
                    if left >= PANEL {
                        y.store(to.add(at));
                    } else {
                        let mut all: Vector = [0.0; PANEL];
                        y.store(all.as_mut_ptr());
                        std::ptr::copy_nonoverlapping(all.as_ptr(), to.add(at), left);
                    }
                }
            }
        }
    }
}

/// Sixteen numbers, or as many as there are, then zeros.
#[inline(always)]
unsafe fn some<V: Lanes>(from: *const f32, count: usize) -> V {
    unsafe {
        if count >= PANEL {
            return V::load(from);
        }
        let mut all: Vector = [0.0; PANEL];
        std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), count);
        V::load(all.as_ptr())
    }
}

type Vector = [f32; PANEL];

#[inline(always)]
unsafe fn vector<const BIAS: bool, const RESIDUAL: bool>(
    sums: *const Vector,
    bias: *const Vector,
    residual: *const Vector,
    to: *mut Vector,
    f: &impl Fn(f32) -> f32,
) {
    unsafe {
        let mut lanes = sums.read_unaligned();
        if BIAS {
            let bias = bias.read_unaligned();
            (0..PANEL).for_each(|i| lanes[i] += bias[i]);
        }
        if RESIDUAL {
            let residual = residual.read_unaligned();
            (0..PANEL).for_each(|i| lanes[i] += residual[i]);
        }
        (0..PANEL).for_each(|i| lanes[i] = f(lanes[i]));
        to.write_unaligned(lanes);
    }
}
