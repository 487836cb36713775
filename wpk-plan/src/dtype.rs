//! Element types.

use crate::codec::unit_enum;

unit_enum! {
    /// The element type of a tensor.
    DType {
        /// IEEE binary32.
        F32 = "f32",
        /// IEEE binary16.
        F16 = "f16",
        /// bfloat16: the upper half of binary32.
        BF16 = "bf16",
        /// IEEE binary64.
        F64 = "f64",
        /// Signed, 64 bits.
        I64 = "i64",
        /// Signed, 32 bits.
        I32 = "i32",
        /// Signed, 16 bits.
        I16 = "i16",
        /// Signed, 8 bits.
        I8 = "i8",
        /// Unsigned, 64 bits.
        U64 = "u64",
        /// Unsigned, 32 bits.
        U32 = "u32",
        /// Unsigned, 16 bits.
        U16 = "u16",
        /// Unsigned, 8 bits.
        U8 = "u8",
        /// One byte, 0 or 1.
        Bool = "bool",
        /// UTF-8 of at most 63 bytes, followed by zeros: only in constants and results.
        Text = "text",
    }
}

impl DType {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Text => 64,
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether it is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }

    /// Whether it is an integer type; `Bool` is not.
    pub const fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool | Self::Text)
    }

    /// Wraps a 64-bit integer to the range of an integer type or `Bool`, as a cast in two's complement does.
    pub const fn wrap(self, x: i64) -> i64 {
        match self {
            Self::I32 => x as i32 as i64,
            Self::I16 => x as i16 as i64,
            Self::I8 => x as i8 as i64,
            Self::U32 => x as u32 as i64,
            Self::U16 => x as u16 as i64,
            Self::U8 => x as u8 as i64,
            Self::Bool => (x != 0) as i64,
            _ => x,
        }
    }

    /// The smallest and largest value of an integer type, as 64-bit patterns.
    pub const fn int_range(self) -> (i64, i64) {
        match self {
            Self::I8 => (i8::MIN as i64, i8::MAX as i64),
            Self::I16 => (i16::MIN as i64, i16::MAX as i64),
            Self::I32 => (i32::MIN as i64, i32::MAX as i64),
            Self::U8 => (0, u8::MAX as i64),
            Self::U16 => (0, u16::MAX as i64),
            Self::U32 => (0, u32::MAX as i64),
            Self::U64 => (0, -1),
            Self::Bool => (0, 1),
            _ => (i64::MIN, i64::MAX),
        }
    }
}
