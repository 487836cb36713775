//! The syntax tree. Control flow is structured: what the tree cannot say, the printer cannot get wrong.

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

/// A virtual register, assigned once except by [`Op::Set`].
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

/// An operation from operands to one register.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// Copies a value into a register that may be assigned again.
    Set,
    /// Copies a value.
    Mov,
    /// Reads a special register.
    Special(Special),
    /// The address of parameter `n`, a pointer.
    Param(u32),
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`, the low half for integers.
    Mul,
    /// The high half of the product of two `U32`.
    MulHi,
    /// The whole product of two values of 32 bits in 64.
    MulWide,
    /// `a * b + c` rounded once.
    Fma,
    /// `a / b`, rounded to nearest.
    Div,
    /// Square root, rounded to nearest.
    Sqrt,
    /// Absolute value.
    Abs,
    /// `-a`
    Neg,
    /// Bitwise and; of predicates too.
    And,
    /// Bitwise or; of predicates too.
    Or,
    /// Bitwise exclusive or; of predicates too.
    Xor,
    /// `a << b`
    Shl,
    /// `a >> b`, arithmetic for signed types.
    Shr,
    /// Whether a comparison of values of this type holds.
    Compare(Cmp, Ty),
    /// `a` where the predicate `c` holds, else `b`.
    Select,
    /// Conversion from a type: floating to integer truncates and saturates.
    Convert(Ty),
    /// Conversion from binary16 in a `B16`.
    FromHalf,
    /// Conversion to binary16 in a `B16`, to nearest even.
    ToHalf,
    /// The same bits as another type of the same size.
    Bits(Ty),
    /// Nearest integral value, ties to even.
    Round,
    /// Largest integral value not above.
    Floor,
    /// Smallest integral value not below.
    Ceil,
    /// The value of the lane whose number differs in these bits; every lane of the warp takes part.
    ShuffleXor(u32),
}

/// A memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// The device's; addresses are `U64`.
    Global,
    /// The block's; addresses are `U32`, from [`Special::Shared`].
    Shared,
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Stmt {
    /// `to = op(args)`
    Op {
        /// The register assigned.
        to: Reg,
        /// What is computed.
        op: Op,
        /// What is read.
        args: Vec<Operand>,
    },
    /// Reads neighbouring elements, as many as there are registers: 1, 2 or 4.
    Load {
        /// The memory.
        space: Space,
        /// The element type.
        ty: MemTy,
        /// The registers assigned.
        to: Vec<Reg>,
        /// The address of the first element.
        address: Reg,
        /// Bytes added to it.
        offset: i32,
    },
    /// Writes neighbouring elements.
    Store {
        /// The memory.
        space: Space,
        /// The element type.
        ty: MemTy,
        /// The values.
        from: Vec<Operand>,
        /// The address of the first element.
        address: Reg,
        /// Bytes added to it.
        offset: i32,
    },
    /// Waits for all threads of the block, and makes their shared memory visible.
    Barrier,
    /// Starts a copy from global to shared memory that ends when a [`Stmt::WaitCopies`] has waited for its group.
    CopyAsync {
        /// Bytes written: 4, 8 or 16.
        bytes: u32,
        /// The shared address.
        to: Reg,
        /// Bytes added to it.
        offset: i32,
        /// The global address.
        from: Reg,
        /// Bytes read, a `U32`; zeros are written for the rest.
        valid: Operand,
    },
    /// Closes the group of the thread's copies so far.
    CommitCopies,
    /// Waits until at most so many of the thread's latest groups are under way.
    WaitCopies(u32),
    /// Orders the thread's accesses to global memory before and after it, for the whole device.
    Fence,
    /// Adds one to a `U32` in global memory, from `limit` back to zero; `to` is the value before.
    AtomicInc {
        /// The register assigned.
        to: Reg,
        /// The global address.
        address: Reg,
        /// The largest value.
        limit: u32,
    },
    /// Runs statements for `counter` from 0 up to `count`.
    Loop {
        /// The round's number, a `U32`.
        counter: Reg,
        /// A predicate that the printed form needs.
        test: Reg,
        /// How many rounds, at least one.
        count: u32,
        /// What runs.
        body: Vec<Stmt>,
    },
    /// Runs statements where a predicate holds.
    If {
        /// The predicate.
        condition: Reg,
        /// What runs.
        then: Vec<Stmt>,
    },
}

/// A kernel: its parameters are pointers to global memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// How many pointers it takes.
    pub params: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Blocks of the grid.
    pub blocks: u32,
    /// Bytes of shared memory of a block.
    pub shared: u32,
    /// Bytes of memory of its own that it takes behind its operands, as a further parameter where there are any.
    pub workspace: usize,
    /// Bytes, likewise behind that, which are zero before a launch and after it.
    pub zeroed: usize,
    /// What every thread runs.
    pub body: Vec<Stmt>,
}
