//! Rust types that can be elements of a tensor.

use wpk_plan::DType;

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that can be an element of a tensor.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// The element type in plans.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($T:ty = $D:ident),* $(,)?) => {$(
        impl sealed::Sealed for $T {}
        impl Element for $T {
            const DTYPE: DType = DType::$D;
        }
    )*};
}

elements!(
    f32 = F32,
    f64 = F64,
    i64 = I64,
    i32 = I32,
    i16 = I16,
    i8 = I8,
    u64 = U64,
    u32 = U32,
    u16 = U16,
    u8 = U8,
    bool = Bool,
    crate::Text = Text
);

#[cfg(feature = "half")]
elements!(half::f16 = F16, half::bf16 = BF16);
