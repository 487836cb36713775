//! Where a warp stands in the tree, and whose turn it is.

use crate::ptx::{Reg, Stmt};

/// Whether a warp can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It can.
    Ready,
    /// It waits at a barrier.
    Waiting,
    /// It waits for the end of a phase of the barrier at this address, of this parity.
    Bytes(u64, bool),
    /// It waits for this arrival of the whole cluster.
    Cluster(u32),
    /// It has ended.
    Done,
}

/// A list of statements being run.
struct Frame<'k> {
    body: &'k [Stmt],
    at: usize,
    /// By lane, a bit for whether it takes part.
    mask: u32,
    /// For loops: the counter, the round, and how many there are.
    rounds: Option<(Reg, u32, u32)>,
}

/// A warp: its place in the tree as a stack of lists.
pub struct Warp<'k> {
    /// Its block in the cluster, and its first thread.
    pub block: usize,
    pub first: usize,
    /// How often it arrived at the cluster's barrier, and waited there.
    pub arrivals: u32,
    pub waits: u32,
    pub state: State,
    stack: Vec<Frame<'k>>,
}

/// A loop's counter with the number of a round that begins.
type Again = Option<(Reg, u32)>;

impl<'k> Warp<'k> {
    pub fn new((block, first): (usize, usize), body: &'k [Stmt]) -> Self {
        let stack = vec![Frame { body, at: 0, mask: u32::MAX, rounds: None }];
        Self { block, first, arrivals: 0, waits: 0, state: State::Ready, stack }
    }

    /// The threads of some lanes.
    pub fn lanes(&self, mask: u32) -> impl Iterator<Item = usize> + use<> {
        let first = self.first;
        (0..32).filter(move |lane| mask >> lane & 1 == 1).map(move |lane| first + lane)
    }

    /// The next statement, the lanes that run it, and the loop whose next round begins with it; nothing where the warp ends.
    pub fn next(&mut self) -> Option<(&'k Stmt, u32, Again)> {
        let mut again = None;
        loop {
            let Some(frame) = self.stack.last_mut() else {
                self.state = State::Done;
                return None;
            };
            if let Some(stmt) = frame.body.get(frame.at) {
                frame.at += 1;
                return Some((stmt, frame.mask, again));
            }
            match &mut frame.rounds {
                Some((counter, round, count)) if *round + 1 < *count => {
                    *round += 1;
                    frame.at = 0;
                    again = Some((*counter, *round));
                }
                _ => {
                    self.stack.pop();
                }
            }
        }
    }

    /// Begins a list of statements for some lanes, once or for every round of a loop.
    pub fn enter(&mut self, body: &'k [Stmt], mask: u32, rounds: Option<(Reg, u32)>) {
        if mask != 0 && !body.is_empty() {
            self.stack.push(Frame { body, at: 0, mask, rounds: rounds.map(|(counter, count)| (counter, 0, count)) });
        }
    }
}

/// Pseudo-random turns; without a seed each warp runs until it waits.
pub struct Turns {
    pub state: u64,
}

/// Statements of a turn at most.
const QUANTUM: usize = 48;

impl Turns {
    pub fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % n
    }

    /// Which of some warps runs, and how many statements.
    pub fn next(&mut self, ready: &[usize]) -> (usize, usize) {
        match self.state {
            0 => (ready[0], usize::MAX),
            _ => (ready[self.below(ready.len())], 1 + self.below(QUANTUM)),
        }
    }
}
