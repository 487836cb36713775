//! Registers, memories and the types of what they hold.

/// The type of a register, and of the operations on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ty {
    /// A predicate.
    Pred,
    /// Sixteen bits without arithmetic: half-precision values on their way.
    B16,
    /// Signed, 32 bits.
    S32,
    /// Unsigned, 32 bits; shares registers with `S32`.
    U32,
    /// Signed, 64 bits.
    S64,
    /// Unsigned, 64 bits: addresses; shares registers with `S64`.
    U64,
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
}

/// A virtual register, assigned once; a variable, which begins by [`Op::Set`](super::Op::Set), any number of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg {
    /// Its type.
    pub ty: Ty,
    /// Its number among all registers of the kernel.
    pub id: u32,
}

/// What an operation reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A constant: the bits of the value in the operation's type.
    Imm(u64),
}

/// The type of an element in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemTy {
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    S8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    S16,
    /// 16 bits into a [`Ty::B16`] register.
    B16,
    /// 32 bits.
    B32,
    /// 64 bits.
    B64,
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
}

impl MemTy {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::S8 => 1,
            Self::U16 | Self::S16 | Self::B16 => 2,
            Self::B32 | Self::F32 => 4,
            Self::B64 | Self::F64 => 8,
        }
    }
}

/// A comparison; on floating values it is false where one is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cmp {
    /// Equal.
    Eq,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Either is not a number.
    Nan,
}

/// A register that the hardware provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// The thread's number in its block.
    Thread,
    /// The block's number in the grid.
    Block,
    /// The address where the block's shared memory begins.
    Shared,
}

/// A half-precision type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
}

/// The type of the factors of a product on tensor cores; sums are `F32`, those of bytes `S32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// Two halves in a register.
    Half(Half),
    /// [`Op::ToTf32`](super::Op::ToTf32).
    Tf32,
    /// Four bytes with signs in a register.
    Bytes,
}

impl Factor {
    /// Bytes of an element.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Half(_) => 2,
            Self::Tf32 => 4,
            Self::Bytes => 1,
        }
    }

    /// The type of sums.
    pub fn sums(self) -> Ty {
        if self == Self::Bytes { Ty::S32 } else { Ty::F32 }
    }

    /// Depth of one product of 16 rows by 8 columns: 32 bytes of every row.
    pub fn depth(self) -> u32 {
        32 / self.bytes()
    }
}

/// A memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// The device's; addresses are `U64`.
    Global,
    /// The block's; addresses are `U32`, from [`Special::Shared`].
    Shared,
}
