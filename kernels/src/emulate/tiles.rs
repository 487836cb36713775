//! The copy engine: tiles on their way to the shared memory of one block or of a whole cluster, and the barriers that they tell; and what
//! threads send to blocks of the cluster, which tells barriers too.

use super::global::{Global, SPAN};
use super::order::{Clock, merge};
use super::shared::{BASE, RANK, Shared, within};
use super::{Cluster, Moment};
use crate::layout::{PERIOD, Swizzle};
use std::collections::BTreeMap;
use wpk_plan::TensorMap;
use wpk_plan::number::tf32_even;

/// The barriers of a block by their places.
#[derive(Default)]
pub struct Barriers(BTreeMap<u64, Barrier>);

struct Barrier {
    count: u32,
    /// Threads that have yet to come in this phase, and bytes announced that did not.
    awaited: u32,
    bytes: i64,
    phase: u64,
    /// The thread that prepared it, until it made that known.
    hidden: Option<usize>,
    /// What is under way and will tell it.
    coming: Vec<Coming>,
    /// What threads that came told of reads, in this phase and in those before.
    telling: Clock,
    told: Clock,
}

/// A tile, or bytes with their place.
enum Coming {
    Tile(Tile),
    Sent(usize, Vec<u8>),
}

/// Coordinates of a tile, and the position in windows; see [`Stmt::CopyTile`](crate::ptx::Stmt::CopyTile).
type At = (Vec<i64>, Option<[i64; 2]>);

/// A tile under way.
#[derive(Clone)]
pub struct Tile {
    /// The number of its map.
    map: usize,
    at: At,
    /// Where it goes.
    to: u64,
    /// Who asked for it.
    thread: usize,
}

impl Barrier {
    /// A thread comes and announces bytes.
    fn come(&mut self, bytes: i64) -> Result<(), String> {
        self.awaited = self.awaited.checked_sub(1).ok_or("more threads come to a barrier than it expects")?;
        self.bytes += bytes;
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        if self.awaited == 0 && self.bytes == 0 {
            (self.awaited, self.phase) = (self.count, self.phase + 1);
            merge(&mut self.told, &self.telling);
        }
    }
}

impl Shared {
    pub fn init_barrier(&mut self, address: u64, count: u32, thread: usize) -> Result<(), String> {
        self.place(address, 8)?;
        let [telling, told] = [vec![], vec![]];
        let barrier = Barrier { count, awaited: count, bytes: 0, phase: 0, hidden: Some(thread), coming: vec![], telling, told };
        match self.barriers.0.insert(within(address), barrier) {
            Some(_) => Err(format!("the barrier at {address} is prepared twice")),
            None => Ok(()),
        }
    }

    pub fn fence_barriers(&mut self, thread: usize) {
        self.barriers.0.values_mut().filter(|b| b.hidden == Some(thread)).for_each(|b| b.hidden = None);
    }

    fn known(&mut self, address: u64) -> Result<&mut Barrier, String> {
        let found = self.barriers.0.get_mut(&within(address)).filter(|b| b.hidden.is_none());
        found.ok_or_else(|| format!("nobody knows of a barrier at {address}"))
    }

    pub fn expect_bytes(&mut self, address: u64, bytes: u32) -> Result<(), String> {
        self.known(address)?.come(i64::from(bytes))
    }

    /// Claims the place of a tile, which `waits` waits for the cluster allow a thread of another block, or what is known of the block's warps.
    fn claim_tile(&mut self, tile: &Tile, map: &TensorMap, (own, known): (bool, &[u32]), waits: u32) -> Result<(), String> {
        if !tile.to.is_multiple_of(u64::from(PERIOD)) {
            return Err(format!("a tile is copied to {}, where no period of exchanges begins", tile.to));
        }
        let at = self.place(tile.to, PERIOD as usize)?;
        let end = at + map.tile_bytes() as usize;
        if end > self.bytes.len() {
            return Err(format!("a tile ends at {end} of {} bytes of shared memory", self.bytes.len()));
        }
        for (byte, touch) in (at..end).zip(&mut self.touched[at..end]) {
            // A barrier orders what was before within the block, the cluster's also what products read.
            let untouched = touch.reader.is_none() && touch.writer.is_none();
            let ordered = touch.ended <= waits && (touch.ended > 0 || untouched);
            let told = touch.writer.is_none() && self.reads.over(known, byte);
            let before = ordered || told || own && untouched;
            if touch.pending || touch.products > 0 || !before {
                return Err(format!("a tile is copied to {at}, which the block still uses"));
            }
            (touch.pending, touch.reader) = (true, None);
        }
        Ok(())
    }

    /// Bytes arrive.
    fn arrive(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        for touch in &mut self.touched[at..at + bytes.len()] {
            (touch.written, touch.pending, touch.writer, touch.seen) = (true, false, None, true);
        }
    }
}

/// What a tile reads, as it lies in shared memory from a multiple of the period on.
fn read(tile: &Tile, map: &TensorMap, global: &mut Global<'_>) -> Result<Vec<u8>, String> {
    const PIECE: usize = 16;
    let (size, swizzle) = (map.dtype.bytes(), Swizzle::of_rows(TensorMap::LINE as u32));
    let mut bytes = vec![0; map.tile_bytes() as usize];
    for line in 0..map.tile as usize {
        let Some(start) = line_of(tile, map, map.line(line) as i64)? else { continue };
        for element in 0..TensorMap::LINE / size {
            let depth = tile.at.0[0] + element as i64;
            if !(0..map.depth as i64).contains(&depth) {
                continue;
            }
            let from = u64::from(map.argument + 1) * SPAN + (map.offset + start + depth as usize * size) as u64;
            let byte = element * size;
            let to = swizzle.apply((line * TensorMap::LINE + byte / PIECE * PIECE) as u32) as usize + byte % PIECE;
            let read = global.bytes(from, size, tile.thread)?;
            match (map.rounds, read.first_chunk()) {
                (true, Some(&x)) => bytes[to..to + size].copy_from_slice(&tf32_even(f32::from_le_bytes(x)).to_le_bytes()),
                _ => bytes[to..to + size].copy_from_slice(&read),
            }
        }
    }
    Ok(bytes)
}

/// Where a line of a tile begins; nothing beyond the extents.
fn line_of(tile: &Tile, map: &TensorMap, line: i64) -> Result<Option<usize>, String> {
    let (at, window) = &tile.at;
    let within = |i: i64, n: usize| (0..n as i64).contains(&i);
    let (images, [right, down]) = match (&map.images, window) {
        (None, None) => {
            let first = match (map.by_lane, at.as_slice()) {
                (false, &[_, first]) => first,
                (true, &[_, 0, 0, 0, group]) => group * TensorMap::LANES as i64,
                _ => return Err(format!("a tile at {at:?}")),
            };
            return Ok(within(first + line, map.lines).then(|| (first + line) as usize * map.pitch));
        }
        (Some(images), Some(window)) => (images, *window),
        _ => return Err("a tile of images that are none".to_owned()),
    };
    if ![right, down].iter().all(|x| (0..256).contains(x)) {
        return Err(format!("a window is read at {right}, {down}"));
    }
    // The engine goes from window to window, from the one that begins here.
    let begins = |at: i64, i: usize| {
        let (ahead, step) = (at - images.first[i], images.steps[i] as i64);
        let number = (ahead >= 0 && ahead % step == 0).then_some(ahead / step).filter(|n| within(*n, images.windows[i]));
        number.ok_or_else(|| format!("no window begins at {at}"))
    };
    let ([rows, columns], [row, column]) = (images.windows.map(|n| n as i64), [begins(at[2], 0)?, begins(at[1], 1)?]);
    let number = (at[3] * rows + row) * columns + column + line;
    let (row, column) = (number / columns % rows, number % columns);
    let place = |i: usize, number: i64, moved: i64| images.first[i] + number * images.steps[i] as i64 + moved;
    let (y, x, image) = (place(0, row, down), place(1, column, right), number / (rows * columns));
    let inside = within(y, images.extents[0]) && within(x, images.extents[1]) && within(image, images.count);
    Ok(inside.then(|| image as usize * images.pitches[1] + y as usize * images.pitches[0] + x as usize * map.pitch))
}

impl Cluster<'_, '_> {
    /// The tile of a map, by the address that a thread of the block whose turn it is gives.
    pub(super) fn tile(&self, map: u64, at: At, to: u64, thread: usize) -> Result<Tile, String> {
        let known = self.maps.iter().position(|m| u64::from(m.argument + 1) * SPAN == map);
        Ok(Tile { map: known.ok_or("a tile of what is no map")?, at, to: within(to), thread })
    }

    /// Starts its copy.
    pub(super) fn copy_tile(&mut self, tile: Tile, barrier: u64, everywhere: bool, waits: u32) -> Result<(), String> {
        let own = self.now;
        let (warps, known) = (self.threads / 32, self.known[self.warp(tile.thread)].clone());
        for block in (0..self.blocks.len()).filter(|&b| everywhere || b == own) {
            let shared = &mut self.blocks[block].shared;
            let of_block = known.get(block * warps..).unwrap_or_default();
            shared.claim_tile(&tile, &self.maps[tile.map], (block == own, of_block), waits)?;
            shared.known(barrier)?.coming.push(Coming::Tile(tile.clone()));
            if shared.moment == Moment::Earliest {
                self.land(block, barrier)?;
            }
        }
        Ok(())
    }

    /// The number in the cluster of a thread's warp in the block whose turn it is.
    fn warp(&self, thread: usize) -> usize {
        (self.now * self.threads + thread) / 32
    }

    /// A thread comes to a barrier, of its own block or another one.
    pub(super) fn come(&mut self, address: u64, thread: usize) -> Result<(), String> {
        let warp = self.warp(thread);
        let came = self.blocks[self.now].shared.reads.come(thread / 32);
        self.known[warp][warp] = came;
        let told = self.known[warp].clone();
        let block = (address >> RANK) as usize;
        let shared = &mut self.blocks.get_mut(block).ok_or_else(|| format!("there is no block {block} in the cluster"))?.shared;
        let barrier = shared.known(address)?;
        merge(&mut barrier.telling, &told);
        barrier.come(0)
    }

    /// A warp learns what it was told at a barrier.
    pub(super) fn learn(&mut self, address: u64, thread: usize) {
        let warp = self.warp(thread);
        if let Some(barrier) = self.blocks[self.now].shared.barriers.0.get(&within(address)) {
            merge(&mut self.known[warp], &barrier.told);
        }
    }

    /// What is on its way to a barrier arrives.
    fn land(&mut self, block: usize, barrier: u64) -> Result<(), String> {
        let maps = self.maps;
        let shared = &mut self.blocks[block].shared;
        for coming in std::mem::take(&mut shared.known(barrier)?.coming) {
            let (at, bytes) = match coming {
                Coming::Tile(tile) => ((tile.to as u32 - BASE) as usize, read(&tile, &maps[tile.map], self.global)?),
                Coming::Sent(at, bytes) => (at, bytes),
            };
            shared.arrive(at, &bytes);
            let barrier = shared.known(barrier)?;
            barrier.bytes -= bytes.len() as i64;
            barrier.settle();
        }
        Ok(())
    }

    /// Sends bytes to a block of the cluster, from a thread that has waited for it so often.
    pub(super) fn send(&mut self, bytes: Vec<u8>, to: u64, barrier: u64, waits: u32) -> Result<(), String> {
        let block = (to >> RANK) as usize;
        if block != (barrier >> RANK) as usize {
            return Err(format!("what is sent to block {block} of the cluster tells another block's barrier"));
        }
        if waits == 0 {
            return Err("blocks of the cluster may not have begun".to_owned());
        }
        let shared = &mut self.blocks.get_mut(block).ok_or_else(|| format!("there is no block {block} in the cluster"))?.shared;
        let at = shared.place(to, bytes.len())?;
        for touch in &mut shared.touched[at..at + bytes.len()] {
            if touch.pending || touch.written || touch.reader.is_some() {
                return Err(format!("bytes are sent to {at}, which the block uses"));
            }
            touch.pending = true;
        }
        let earliest = shared.moment == Moment::Earliest;
        shared.known(barrier)?.coming.push(Coming::Sent(at, bytes));
        if earliest { self.land(block, barrier) } else { Ok(()) }
    }

    /// Whether the phase of a parity of a barrier has ended; what is on its way arrives for the question.
    pub(super) fn phase_ended(&mut self, address: u64, parity: bool) -> Result<bool, String> {
        self.land(self.now, address)?;
        let barrier = self.blocks[self.now].shared.known(address)?;
        Ok((barrier.phase & 1 == 1) != parity)
    }
}
