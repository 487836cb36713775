//! Columns of products of warpgroups, as threads copy them to shared memory: lines of up to 128 bytes of depth, bytes exchanged.

use super::tile::{Lanes, Source};
use crate::dsl::{Val, Writer};
use crate::layout::{ROW, Swizzle};
use crate::ptx::{Op, Ty};
use std::ops::Range;

/// What a thread copies of the columns of all pieces: lines of so many bytes a group, in panels of 128.
pub struct Columns {
    /// By copy, the first element, whether there is one, and whether there is such a line where not all copies have one.
    from: Vec<(Val, Option<Val>, Option<Val>)>,
    /// Where its first line is, its byte of a group there, and what that is exchanged by.
    line: Val,
    piece: Val,
    turn: Val,
    /// Bytes from a copy to the next, and of a group.
    apart: u32,
    group: u32,
    element: u32,
}

impl Columns {
    /// Of `lines` lines, groups of so many bytes of them.
    pub fn new(
        k: &mut Writer,
        source: &Source,
        (thread, threads): (Val, u32),
        batch: Val,
        (lines, group): (u32, u32),
        by_lane: Option<Lanes>,
        start: Val,
    ) -> Self {
        let pieces = group / 16;
        let (first, piece) = k.div_rem(thread, pieces);
        let at_once = threads / pieces;
        let begin = source.linear.start(k);
        let outer = source.linear.term(k, batch, &source.batch);
        let begin = begin.plus(k, &outer);
        let element = source.dtype.bytes() as u32;
        let deeper = k.scaled(piece, i64::from(16 / element));
        let deeper = source.linear.term(k, deeper, &source.depth);
        let begin = begin.plus(k, &deeper);
        // Lines that lie together, and the loops over such blocks of them.
        let (outer, inner) = source.lines.split_at(source.lines.len() - 1);
        let own = source.linear.space[inner[0]] as u32;
        let (block, within) = if at_once > own { k.div_rem(first, own) } else { (k.int(0, Ty::U32), first) };
        let from = (0..lines.div_ceil(at_once)).map(|n| {
            let moved = n * at_once;
            let line = k.plus(first, i64::from(moved));
            let exists = (moved + at_once > lines).then(|| k.below(line, i64::from(lines)));
            let within = k.plus(within, i64::from(moved % own));
            let within = by_lane.map_or(within, |lanes| lanes.line(k, within));
            let own_term = source.linear.term(k, within, inner);
            let term = begin.plus(k, &own_term);
            let term = if at_once > own {
                let block = k.plus(block, i64::from(moved / own));
                let of_block = source.linear.term(k, block, outer);
                term.plus(k, &of_block)
            } else {
                source.linear.at(k, &term, (moved / own) as usize, outer)
            };
            let (inside, place) = source.linear.resolve(k, &term);
            (place, inside, exists)
        });
        let from = from.collect();
        let line = k.scaled(first, i64::from(ROW));
        let turn = Swizzle::of_rows(ROW).emit(k, line);
        let turn = k.op(Ty::U32, Op::Xor, &[turn, line]);
        Self { from, line: k.add(start, line), piece: k.scaled(piece, 16), turn, apart: at_once * ROW, group, element }
    }

    /// Copies so many bytes of some lines of a group that begins at some depth, to a byte of a panel that begins so far behind the first; copies
    /// of further lines go on where these end.
    pub fn copy(&self, k: &mut Writer, depth: Val, (panel, byte): (u32, u32), (lines, bytes): (&Range<u32>, u32)) {
        let within = (bytes < self.group).then(|| k.below(self.piece, i64::from(bytes)));
        let copies = [lines.start, lines.end].map(|line| line.div_ceil(self.apart / ROW));
        let piece = k.plus(self.piece, i64::from(byte));
        let piece = k.op(Ty::U32, Op::Xor, &[piece, self.turn]);
        let to = k.add(self.line, piece);
        let to = k.plus(to, i64::from(panel));
        for (n, &(place, inside, exists)) in (copies[0]..copies[1]).zip(&self.from[copies[0] as usize..]) {
            let one = |k: &mut Writer| {
                let from = k.add(place, Val { ty: Ty::S32, ..depth });
                let from = k.element(1, from, self.element as usize);
                let (all, none) = (k.int(16, Ty::U32), k.int(0, Ty::U32));
                let valid = inside.map_or(all, |inside| k.select(inside, all, none));
                k.copy_async(16, to, (n * self.apart) as i32, from, valid);
            };
            let copied = k.both(exists, within);
            k.when_some(copied, one);
        }
    }
}
