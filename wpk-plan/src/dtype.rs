//! Element types.

use crate::codec::unit_enum;
use crate::minifloat::Format;

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
        /// 4 bits of exponent, 3 of fraction, no infinity: `float8e4m3fn`.
        F8E4M3 = "f8e4m3",
        /// The same with another bias, and one zero: `float8e4m3fnuz`.
        F8E4M3Fnuz = "f8e4m3fnuz",
        /// 5 bits of exponent, 2 of fraction: `float8e5m2`.
        F8E5M2 = "f8e5m2",
        /// The same with another bias, one zero and no infinity: `float8e5m2fnuz`.
        F8E5M2Fnuz = "f8e5m2fnuz",
        /// Powers of two: `float8e8m0`.
        F8E8M0 = "f8e8m0",
        /// 2 bits of exponent, 1 of fraction, in one byte: `float4e2m1`.
        F4E2M1 = "f4e2m1",
        /// Signed, 4 bits in one byte.
        I4 = "i4",
        /// Unsigned, 4 bits in one byte.
        U4 = "u4",
        /// Signed, 2 bits in one byte.
        I2 = "i2",
        /// Unsigned, 2 bits in one byte.
        U2 = "u2",
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
            Self::F8E4M3 | Self::F8E4M3Fnuz | Self::F8E5M2 | Self::F8E5M2Fnuz | Self::F8E8M0 => 1,
            Self::F4E2M1 | Self::I4 | Self::U4 | Self::I2 | Self::U2 => 1,
        }
    }

    /// Bits of one element where elements are packed, as in ONNX files.
    pub const fn packed_bits(self) -> usize {
        match self {
            Self::F4E2M1 | Self::I4 | Self::U4 => 4,
            Self::I2 | Self::U2 => 2,
            other => 8 * other.bytes(),
        }
    }

    /// Whether elements are only moved and converted, never computed with.
    pub const fn is_storage(self) -> bool {
        Format::of(self).is_some() || self.packed_bits() < 8
    }

    /// Whether it is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64) || Format::of(self).is_some()
    }

    /// Whether a wider floating type holds all its values.
    pub const fn widens_to(self, wide: Self) -> bool {
        self.is_float() && matches!(wide, Self::F32 | Self::F64) && self.bytes() < wide.bytes()
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
            Self::I4 => x << 60 >> 60,
            Self::U4 => x & 15,
            Self::I2 => x << 62 >> 62,
            Self::U2 => x & 3,
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
            Self::I4 => (-8, 7),
            Self::U4 => (0, 15),
            Self::I2 => (-2, 1),
            Self::U2 => (0, 3),
            Self::Bool => (0, 1),
            _ => (i64::MIN, i64::MAX),
        }
    }
}
