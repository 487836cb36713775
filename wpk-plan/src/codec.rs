//! The byte encoding: little-endian base-128 integers, length-prefixed sequences, tagged enums.

use std::fmt;

/// A value with a canonical byte encoding: equal values have equal bytes.
pub trait Codec: Sized {
    /// Appends the encoding of `self`.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads one value.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Why bytes are not an encoded plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside a value.
    Truncated,
    /// A tag, length or text that no encoder writes.
    Malformed(&'static str),
    /// The plan was made by another version of the compiler.
    Version {
        /// The version found in the bytes.
        found: u32,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the encoded plan ends early"),
            Self::Malformed(what) => write!(f, "the encoded plan has a malformed {what}"),
            Self::Version { found } => {
                write!(f, "the plan has version {found}, this runtime reads {}: build with matching wpk crates", crate::VERSION)
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// A cursor over encoded bytes.
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Nested values so far, bounded so that hostile bytes cannot exhaust the stack.
    pub(crate) depth: u32,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, depth: 0 }
    }

    /// Whether every byte was read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.bytes.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.bytes = tail;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        let n = usize::decode(self)?;
        if n > self.bytes.len() { Err(DecodeError::Truncated) } else { Ok(n) }
    }
}

impl Codec for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut x = *self;
        while x >= 0x80 {
            out.push(x as u8 | 0x80);
            x >>= 7;
        }
        out.push(x as u8);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut x = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = r.byte()?;
            x |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(x);
            }
        }
        Err(DecodeError::Malformed("integer"))
    }
}

impl Codec for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        (((self << 1) ^ (self >> 63)) as u64).encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let x = u64::decode(r)?;
        Ok((x >> 1) as i64 ^ -((x & 1) as i64))
    }
}

impl Codec for f64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.to_bits().to_le_bytes());
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(r.take(8)?);
        Ok(f64::from_bits(u64::from_le_bytes(bytes)))
    }
}

macro_rules! narrow {
    ($($T:ty as $W:ty),*) => {$(
        impl Codec for $T {
            fn encode(&self, out: &mut Vec<u8>) {
                (*self as $W).encode(out);
            }
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                <$T>::try_from(<$W>::decode(r)?).map_err(|_| DecodeError::Malformed("integer"))
            }
        }
    )*};
}
narrow!(u8 as u64, u16 as u64, u32 as u64, usize as u64, i32 as i64);

impl Codec for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed("flag")),
        }
    }
}

/// Bytes that are stored as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Codec for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.len().encode(out);
        out.extend_from_slice(&self.0);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = r.length()?;
        Ok(Self(r.take(n)?.to_vec()))
    }
}

impl Codec for String {
    fn encode(&self, out: &mut Vec<u8>) {
        self.len().encode(out);
        out.extend(self.as_bytes());
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = r.length()?;
        String::from_utf8(r.take(n)?.to_vec()).map_err(|_| DecodeError::Malformed("text"))
    }
}

impl<T: Codec> Codec for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.len().encode(out);
        self.iter().for_each(|x| x.encode(out));
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = r.length()?;
        r.depth += 1;
        if r.depth > 64 {
            return Err(DecodeError::Malformed("nesting"));
        }
        let items = (0..n).map(|_| T::decode(r)).collect();
        r.depth -= 1;
        items
    }
}

impl<T: Codec> Codec for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(x) = self {
            x.encode(out);
        }
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::decode(r)? { Some(T::decode(r)?) } else { None })
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(r)?, B::decode(r)?))
    }
}

impl<T: Codec> Codec for [T; 2] {
    fn encode(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|x| x.encode(out));
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok([T::decode(r)?, T::decode(r)?])
    }
}

/// Derives [`Codec`] for a struct from its list of fields.
macro_rules! codec_struct {
    ($T:ty { $($field:ident),* $(,)? }) => {
        impl $crate::Codec for $T {
            fn encode(&self, out: &mut Vec<u8>) {
                $( self.$field.encode(out); )*
            }
            fn decode(r: &mut $crate::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                Ok(Self { $( $field: $crate::Codec::decode(r)? ),* })
            }
        }
    };
}

/// Derives [`Codec`] for an enum whose variants hold positional fields, each with its tag.
macro_rules! codec_enum {
    ($T:ident { $($tag:literal => $V:ident $( ( $($x:ident),* ) )?),* $(,)? }) => {
        impl $crate::Codec for $T {
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$V $( ( $($x),* ) )? => { out.push($tag); $( $( $x.encode(out); )* )? } )*
                }
            }
            fn decode(r: &mut $crate::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                match r.byte()? {
                    $( $tag => { $( $( let $x = $crate::Codec::decode(r)?; )* )? Ok(Self::$V $( ( $($x),* ) )?) } )*
                    _ => Err($crate::DecodeError::Malformed(stringify!($T))),
                }
            }
        }
    };
}

/// Declares an enum without fields, with its names, its list of values, its text form and its encoding.
macro_rules! unit_enum {
    ($(#[$meta:meta])* $T:ident { $($(#[$doc:meta])* $V:ident = $name:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $T { $($(#[$doc])* $V),* }

        impl $T {
            /// Every value, in declaration order.
            pub const ALL: &[$T] = &[$($T::$V),*];
            /// The name used in every text form.
            pub const fn name(self) -> &'static str {
                match self { $($T::$V => $name),* }
            }
        }

        impl std::fmt::Display for $T {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl $crate::Codec for $T {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }
            fn decode(r: &mut $crate::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                Self::ALL.get(usize::from(r.byte()?)).copied().ok_or($crate::DecodeError::Malformed(stringify!($T)))
            }
        }
    };
}

pub(crate) use {codec_enum, codec_struct, unit_enum};
