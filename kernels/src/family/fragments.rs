//! What a warp reads of a tile for products on tensor cores: 16 lines by 32 bytes of depth at a time, four words a lane.

use super::tile::{Along, Layout};
use crate::dsl::{Val, Writer};
use crate::ptx::{MemTy, Op, Ty};

/// Which factor of the product a tile is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first: 16 rows. Words in the order of [`crate::ptx::Stmt::Mma`].
    Rows,
    /// The second: twice 8 columns. Words in that order for the first 8, then for the others.
    Columns,
}

/// Where a warp's words are in stage 0.
pub struct Fragments {
    layout: Layout,
    side: Side,
    /// Addresses by depth (`Along::Depth`) or by 16 lines (`Along::Lines`), or one for words read one by one.
    bases: Vec<Val>,
    /// Depths between the two words of a lane.
    apart: u32,
}

impl Fragments {
    /// For the warp whose lines begin at `first`, `count` of them; the tile begins at `start`.
    /// Words read one by one lie four apart in depth, as the hardware pairs them, or side by side where `paired`.
    pub fn new(k: &mut Writer, layout: Layout, side: Side, (lane, first, count): (Val, Val, u32), start: Val, paired: bool) -> Self {
        let part = |k: &mut Writer, shift: i64, mask: i64| {
            let (shift, mask) = (k.int(shift, Ty::U32), k.int(mask, Ty::U32));
            let high = k.op(Ty::U32, Op::Shr, &[lane, shift]);
            k.op(Ty::U32, Op::And, &[high, mask])
        };
        if layout.along == Along::Lines && layout.element == 4 {
            let (g, t) = k.div_rem(lane, 4);
            let line = k.add(first, g);
            let byte = k.scaled(line, 4);
            let row = if paired { k.scaled(t, 2) } else { t };
            let place = layout.rows.emit(k, row, byte);
            let base = k.add(start, place);
            return Self { layout, side, bases: vec![base], apart: if paired { 1 } else { 4 } };
        }
        // Matrices 0 to 3 of a load: of the rows (low, high, low, high) or (low, low, high, high), at the other 16 bytes the
        // other way round.
        let alternating = (side == Side::Rows) == (layout.along == Along::Depth);
        let (row, chunk) = if alternating {
            (part(k, 0, 15), part(k, 4, 1))
        } else {
            let (low, high) = (part(k, 0, 7), part(k, 4, 1));
            let high = k.scaled(high, 8);
            (k.add(low, high), part(k, 3, 1))
        };
        let byte = k.scaled(chunk, 16);
        let (row, byte, steps) = match layout.along {
            Along::Depth => (k.add(first, row), byte, layout.depth * layout.element / 32),
            Along::Lines => {
                let line = k.scaled(first, i64::from(layout.element));
                (row, k.add(line, byte), count / 16)
            }
        };
        let place = layout.rows.emit(k, row, byte);
        let bases = (0..steps).map(|i| {
            let step = k.int(i64::from(32 * i), Ty::U32);
            let moved = match i {
                0 => place,
                _ if layout.rows.is_swizzled() => k.op(Ty::U32, Op::Xor, &[place, step]),
                _ => k.add(place, step),
            };
            k.add(start, moved)
        });
        Self { layout, side, bases: bases.collect(), apart: 4 }
    }

    /// Of which factor.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The same addresses in another stage.
    pub fn in_stage(&self, k: &mut Writer, stage: Val) -> Vec<Val> {
        self.bases.iter().map(|&b| k.add(b, stage)).collect()
    }

    /// The four words at step `depth` of 32 bytes, of lines `16 * block` on.
    pub fn read(&self, k: &mut Writer, bases: &[Val], depth: u32, block: u32) -> Vec<Val> {
        let pitch = self.layout.rows.pitch;
        match (self.layout.along, self.layout.element) {
            (Along::Depth, _) => k.load_matrix(bases[depth as usize], (16 * block * pitch) as i32, 4, false),
            (Along::Lines, 2) => k.load_matrix(bases[block as usize], (16 * depth * pitch) as i32, 4, true),
            (Along::Lines, _) => {
                let at = 8 * depth * pitch + 64 * block;
                let (lines, deeper) = (32, self.apart * pitch);
                let offsets = match self.side {
                    Side::Rows => [0, lines, deeper, lines + deeper],
                    Side::Columns => [0, deeper, lines, lines + deeper],
                };
                offsets.map(|o| k.load_at(MemTy::B32, Ty::U32, bases[0], (at + o) as i32, 1)[0]).to_vec()
            }
        }
    }
}

/// Brings the sums of lanes that share rows together: `sums[i]` are two neighbouring columns in tile `i` of 8, one of 2 or 4 tiles;
/// afterwards a lane holds neighbouring columns of one tile. Returns them; [`first_column`] tells which.
pub fn exchange(k: &mut Writer, lane: Val, sums: &[[Val; 2]]) -> Vec<Val> {
    let mut held: Vec<[Val; 2]> = sums.to_vec();
    let mut mask = 1;
    while (mask as usize) < held.len() {
        let bit = k.int(i64::from(mask), Ty::U32);
        let zero = k.int(0, Ty::U32);
        let bit = k.op(Ty::U32, Op::And, &[lane, bit]);
        let upper = k.compare(crate::ptx::Cmp::Lt, zero, bit);
        for i in (0..held.len()).filter(|i| i & mask as usize == 0) {
            let j = i | mask as usize;
            for e in 0..2 {
                let sent = k.select(upper, held[i][e], held[j][e]);
                let received = k.op(sent.ty, Op::ShuffleXor(mask), &[sent]);
                held[i][e] = k.select(upper, received, held[i][e]);
                held[j][e] = k.select(upper, held[j][e], received);
            }
        }
        mask *= 2;
    }
    held.concat()
}

/// The column, among those of `tiles` tiles of 8, at which the lane's begin after [`exchange`].
pub fn first_column(k: &mut Writer, lane: Val, tiles: u32) -> Val {
    let t = k.int(3, Ty::U32);
    let t = k.op(Ty::U32, Op::And, &[lane, t]);
    let (rest, tile) = k.div_rem(t, tiles);
    let tile = k.scaled(tile, 8);
    let within = k.scaled(rest, i64::from(2 * tiles));
    k.add(tile, within)
}
