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
            Activation::Gelu | Activation::HardSwish | Activation::Silu | Activation::Sigmoid => by_lanes()(&operands, activation),
            Activation::GeluTanh => operands.apply(math::gelu_tanh),
            Activation::Tanh => operands.apply(math::tanh),
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

/// The activations that have kernels of their own, by this machine's lanes.
fn by_lanes() -> unsafe fn(&Operands<'_>, Activation) {
    macro_rules! compiled {
        ($V:ty $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn end(operands: &Operands<'_>, activation: Activation) {
                unsafe {
                    match activation {
                        Activation::HardSwish => operands.lanes::<$V>(|x| functions::hard_swish(x)),
                        Activation::Silu => operands.lanes::<$V>(|x| functions::silu(x)),
                        Activation::Sigmoid => operands.lanes::<$V>(|x| functions::sigmoid(x)),
                        _ => operands.lanes::<$V>(|x| functions::gelu(x)),
                    }
                }
            }
            end
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
