//! The syntax tree. Control flow is structured: what the tree cannot say, the printer cannot get wrong.

use super::types::{Cmp, Factor, Half, MemTy, Operand, Reg, Space, Special, Ty};
use wpk_plan::{Parts, TensorMap};

/// An operation from operands to one register.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// Copies a value into a variable.
    Set,
    /// Copies a value.
    Mov,
    /// Reads a special register.
    Special(Special),
    /// Parameter `n`: a pointer, or where it is one of [`Kernel::maps`], the address of the description.
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
    /// The larger; where either is not a number, that. `F32` from sm_80 on, and integers.
    Max,
    /// The smaller, likewise.
    Min,
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
    /// Two `F32` as halves of one `U32`, the first in the high one, to nearest even.
    Pack(Half),
    /// The lower half of a `U32` as a `B16`.
    LowHalf,
    /// The upper half.
    HighHalf,
    /// An `F32` rounded to the 11 significant bits that tensor cores read, to nearest with ties away from zero, in a `U32`.
    ToTf32,
    /// `2^a` to two units in the last place; results below 2^-126 are zero.
    Exp2,
    /// `1 / a` to one unit in the last place.
    Recip,
    /// A shared address as it is in the cluster's block of that number (`mapa`).
    Peer,
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
    /// The first lane's value, for all lanes of the warp: of what is the same in all of them, which `ptxas` learns by it.
    Uniform,
    /// Whether the thread is the one that its warp elects; every lane takes part. `ptxas` learns that it is one.
    Elect,
    /// By lane, a bit for whether the predicate holds there; every lane of the warp takes part.
    Ballot,
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
    /// Reads matrices of 8 rows by 16 bytes from shared memory, one for each of up to four registers. Lanes 8i to 8i + 7 of the
    /// warp give the addresses of the rows of matrix i; lane l gets word l % 4 of row l / 4, or where `transposed`, the
    /// 16-bit elements 2 (l % 4) and 2 (l % 4) + 1 of column l / 4. Every lane takes part.
    LoadMatrix {
        /// The registers assigned, `U32`: 1, 2 or 4.
        to: Vec<Reg>,
        /// The shared address of the lane's row.
        address: Reg,
        /// Bytes added to it.
        offset: i32,
        /// Whether matrices of 16-bit elements are transposed.
        transposed: bool,
    },
    /// `sum += a * b` on tensor cores, for 16 rows and 8 columns. Lane l holds, with g = l / 4 and t = l % 4: of the sums rows g and
    /// g + 8 at columns 2t and 2t + 1; of `a` the words t and t + 4 of rows g and g + 8, in the order (g, t), (g + 8, t),
    /// (g, t + 4), (g + 8, t + 4); of `b` the words t and t + 4 of column g. A word holds the elements of 4 bytes of depth.
    /// Every lane takes part.
    Mma {
        /// The type of the factors.
        factor: Factor,
        /// The sums, variables of type `F32`.
        sum: [Reg; 4],
        /// The first factor, `U32`.
        a: [Reg; 4],
        /// The second factor, `U32`.
        b: [Reg; 2],
    },
    /// `sums += a * b` on tensor cores, for 64 rows and `8 * sums.len() / 4` columns, by four warps together (a warpgroup, which begins at
    /// a multiple of four warps); 32 bytes of depth. It reads shared memory when it may, and is over once [`Stmt::WaitProducts`] has waited
    /// for its group. Warp w of the four holds rows 16w to 16w + 15; a lane's sums are those of [`Stmt::Mma`], columns fastest.
    GroupMma {
        /// The type of the factors; of TF32 the lowest bits are not read.
        factor: Factor,
        /// The sums, variables of type `F32`.
        sums: Vec<Reg>,
        /// Whether what they hold is added to, or replaced.
        adds: bool,
        /// The first factor's rows.
        a: GroupRows,
        /// The second factor's columns in shared memory: a [`descriptor`](crate::layout::descriptor).
        b: Reg,
        /// Whether these columns, of half types, lie side by side, a depth to a row.
        across: bool,
    },
    /// Orders the warpgroup's accesses to registers and shared memory before products that begin behind it.
    FenceProducts,
    /// Closes the group of the warpgroup's products so far.
    CommitProducts,
    /// Waits until at most so many of the warpgroup's latest groups are under way.
    WaitProducts(u32),
    /// Makes what the thread wrote to shared memory visible to products of warpgroups, which read it another way (the asynchronous proxy).
    FenceProxy,
    /// Prepares a barrier of the copy engine, eight bytes of shared memory (`mbarrier`), whose phases end once as many threads came as are
    /// expected and all bytes that they announced have.
    InitBarrier {
        /// Its shared address.
        address: Reg,
        /// How many threads are expected.
        count: u32,
    },
    /// Makes the barriers that the thread prepared known to the copy engine and to the cluster.
    FenceBarriers,
    /// Comes to a barrier and announces bytes.
    ExpectBytes {
        /// The barrier's shared address.
        address: Reg,
        /// How many bytes.
        bytes: u32,
    },
    /// Comes to a barrier: what the thread did before, those who wait for the phase's end know of.
    Arrive {
        /// The barrier's shared address, of another block from [`Op::Peer`].
        address: Reg,
    },
    /// Waits until the barrier's phase of this parity (its number's lowest bit) has ended. Every thread of the warp takes part.
    AwaitBytes {
        /// The barrier's shared address.
        address: Reg,
        /// The parity.
        parity: Operand,
    },
    /// Has the copy engine copy a tile, 128 bytes of each line, exchanged, to shared memory (PTX ISA, `cp.async.bulk.tensor`), and its bytes
    /// told to a barrier there.
    CopyTile {
        /// The address of a [`TensorMap`].
        map: Reg,
        /// The tile's first element of depth, and its first line; where that is one of images (im2col mode), its column, its row and its image,
        /// and where lines lie by lane, its places among neighbours, which are zero, and its group.
        at: Vec<Operand>,
        /// At which column and row of every window images are read.
        window: Option<[Operand; 2]>,
        /// The shared address.
        to: Reg,
        /// The barrier's.
        barrier: Reg,
        /// Whether every block of the cluster gets it, and is told, at the same place.
        everywhere: bool,
    },
    /// Sends neighbouring elements of 4 bytes, 1, 2 or 4 of them, to the shared memory of a block of the cluster, and tells a barrier there how
    /// many bytes came (`st.async`).
    Send {
        /// The values.
        from: Vec<Operand>,
        /// The address, from [`Op::Peer`].
        to: Reg,
        /// Bytes added to it.
        offset: i32,
        /// The barrier's address in the same block.
        barrier: Reg,
    },
    /// Tells the cluster that the thread came here; it orders no memory but what the thread waited for.
    ArriveCluster,
    /// Waits until all threads of the cluster came to the arrival that the thread's last one was.
    WaitCluster,
    /// Orders the thread's accesses to global memory before and after it, for the whole device.
    Fence,
    /// Lets the kernels that depend on this one start once every block has come here or ended.
    LaunchDependents,
    /// Waits until the kernels that this one depends on have ended and their writes are visible.
    WaitDependencies,
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
        /// How many rounds, a `U32` that all threads of a warp agree on; a constant is at least one.
        count: Operand,
        /// Whether the assembler has to leave the rounds a loop, as is best for what hardly ever runs.
        rolled: bool,
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

/// The first factor of a product of a warpgroup.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GroupRows {
    /// In shared memory: a [`descriptor`](crate::layout::descriptor).
    Shared(Reg),
    /// Each warp's sixteen rows in registers, as in [`Stmt::Mma`]; they belong to the product until it was waited for.
    Registers([Reg; 4]),
}

/// A kernel: its parameters are pointers to global memory, or descriptions of what lies there.
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
    /// Blocks of a cluster.
    pub cluster: u32,
    /// Parameters that are descriptions instead of pointers.
    pub maps: Vec<TensorMap>,
    /// The parameter that points to parts instead of panels.
    pub parts: Option<Parts>,
    /// Parameters that no kernel writes: they may be read before [`Stmt::WaitDependencies`].
    pub constant: Vec<u32>,
    /// What every thread runs.
    pub body: Vec<Stmt>,
}
