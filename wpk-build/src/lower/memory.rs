//! Lifetimes to addresses. Two intermediates may share memory only where the edges order every step of one before every
//! step of the other, so that any executor that respects the edges may run the plan.

use super::steps::{Buffer, Draft, Drafts};
use std::collections::BTreeMap;
use wpk_plan::problem::Problem;
use wpk_plan::{Arg, Edge, EdgeKind, Kernel, Place, Step};

/// Bytes between the starts of intermediates.
const ALIGN: usize = 64;

/// Steps with edges and addresses, the bytes of the arena, and how many of them begin as zero.
pub fn assign(drafts: Drafts) -> (Vec<Step>, usize, usize) {
    let order = Order::new(&drafts.steps);
    let offsets = place(&drafts, &order);
    let arena = offsets.iter().zip(&drafts.arena).map(|(o, n)| o + n).max().unwrap_or(0).next_multiple_of(ALIGN);
    let arg = |&(buffer, dtype): &(Buffer, wpk_plan::DType)| match buffer {
        Buffer::Arena(i) => Arg { place: Place::Arena(offsets[i]), dtype, bytes: drafts.arena[i] },
        Buffer::Weight(i) => Arg { place: Place::Weight(i), dtype, bytes: drafts.weights[i as usize] },
        Buffer::Input(i) => Arg { place: Place::Input(i as u32), dtype, bytes: drafts.inputs[i] },
        Buffer::Output(i) => Arg { place: Place::Output(i as u32), dtype, bytes: drafts.outputs[i] },
    };
    let mut args: Vec<Vec<Arg>> = drafts.steps.iter().map(|d| d.args.iter().map(arg).collect()).collect();
    // Counters are never shared: they lie behind everything else.
    let mut end = arena;
    for (args, d) in args.iter_mut().zip(&drafts.steps) {
        if let Some(bytes) = d.launch.map(|l| l.zeroed).filter(|&n| n > 0) {
            args.push(Arg { place: Place::Arena(end), dtype: wpk_plan::DType::U8, bytes });
            end += bytes.next_multiple_of(ALIGN);
        }
    }
    let overlaps: Vec<bool> = drafts.steps.iter().map(|d| d.launch.is_some_and(|l| l.overlaps)).collect();
    let edge = |step: u32, own: bool| {
        let kind = if own && overlaps[step as usize] { EdgeKind::Programmatic } else { EdgeKind::Full };
        Edge { step, kind }
    };
    let steps = drafts.steps.into_iter().zip(args).zip(order.edges).map(|((d, args), edges)| Step {
        kernel: match d.launch {
            Some(launch) => Kernel::Gpu(d.problem, d.layout, launch.module),
            None => Kernel::Cpu(d.problem, d.layout),
        },
        args,
        after: edges.into_iter().map(|step| edge(step, d.launch.is_some_and(|l| l.overlaps))).collect(),
        origin: d.origin,
        why: d.why,
    });
    (steps.collect(), end, end - arena)
}

/// The partial order of steps.
struct Order {
    /// The steps each one waits for directly.
    edges: Vec<Vec<u32>>,
    /// As bits, the steps each one waits for at all.
    before: Vec<Vec<u64>>,
}

impl Order {
    /// A step waits for those that wrote what it reads, and for those that touched what it writes. On a processor steps are run one after another, so
    /// that branches, such as the images of a batch, may share memory.
    fn new(steps: &[Draft]) -> Self {
        let sequential = steps.iter().all(|step| step.launch.is_none());
        let words = steps.len().div_ceil(64);
        let mut order = Self { edges: vec![], before: vec![] };
        let (mut writers, mut readers): (BTreeMap<Buffer, Vec<usize>>, BTreeMap<Buffer, Vec<usize>>) = Default::default();
        for (i, step) in steps.iter().enumerate() {
            let (reads, writes) = step.args.split_at(step.problem.inputs().len());
            let mut wanted: Vec<usize> = vec![];
            for (b, _) in reads {
                wanted.extend(writers.get(b).into_iter().flatten());
            }
            for (b, _) in writes {
                wanted.extend(writers.get(b).into_iter().flatten().chain(readers.get(b).into_iter().flatten()));
            }
            wanted.extend(i.checked_sub(1).filter(|_| sequential));
            wanted.sort_unstable();
            wanted.dedup();
            let mut before = vec![0u64; words];
            let mut edges = vec![];
            for &w in wanted.iter().rev() {
                if before[w / 64] >> (w % 64) & 1 == 0 {
                    edges.push(w as u32);
                    before[w / 64] |= 1 << (w % 64);
                    before.iter_mut().zip(&order.before[w]).for_each(|(b, o)| *b |= o);
                }
            }
            edges.reverse();
            order.edges.push(edges);
            order.before.push(before);
            reads.iter().for_each(|(b, _)| readers.entry(*b).or_default().push(i));
            writes.iter().for_each(|(b, _)| writers.entry(*b).or_default().push(i));
        }
        order
    }

    fn is_before(&self, a: usize, b: usize) -> bool {
        self.before[b][a / 64] >> (a % 64) & 1 == 1
    }
}

/// An offset for every intermediate, the largest first, each at the lowest that is free.
fn place(drafts: &Drafts, order: &Order) -> Vec<usize> {
    let mut touched: Vec<Vec<usize>> = vec![vec![]; drafts.arena.len()];
    for (i, step) in drafts.steps.iter().enumerate() {
        for &(b, _) in &step.args {
            if let Buffer::Arena(b) = b {
                touched[b].push(i);
            }
        }
    }
    let before = |a: usize, b: usize| touched[a].iter().all(|&i| touched[b].iter().all(|&j| order.is_before(i, j)));
    let apart = |a: usize, b: usize| before(a, b) || before(b, a);
    // The last step of `a` is the first of `b` and works in place.
    let follows = |a: usize, b: usize| {
        let step = touched[b][0];
        let ordered = |i: usize, j: usize| i == step && j == step || order.is_before(i, j);
        touched[a].iter().all(|&i| touched[b].iter().all(|&j| ordered(i, j))) && in_place(&drafts.steps[step], (a, b))
    };
    let mut offsets = vec![0; drafts.arena.len()];
    let mut placed: Vec<usize> = vec![];
    let mut queue: Vec<usize> = (0..drafts.arena.len()).filter(|&b| drafts.arena[b] > 0 && !touched[b].is_empty()).collect();
    queue.sort_by_key(|&b| (std::cmp::Reverse(drafts.arena[b]), b));
    for b in queue {
        let size = drafts.arena[b];
        let mut taken: Vec<(usize, usize, usize)> =
            placed.iter().filter(|&&p| !apart(p, b)).map(|&p| (offsets[p], offsets[p] + drafts.arena[p], p)).collect();
        taken.sort_unstable();
        let partner = taken.iter().find(|&&(start, end, p)| {
            let alone = taken.iter().all(|&(s, e, q)| q == p || e <= start || end <= s);
            end - start == size && alone && (follows(p, b) || follows(b, p))
        });
        offsets[b] = match partner {
            Some(&(start, ..)) => start,
            None => {
                let mut at = 0;
                for (start, end, _) in taken {
                    if at + size <= start {
                        break;
                    }
                    at = at.max(end.next_multiple_of(ALIGN));
                }
                at
            }
        };
        placed.push(b);
    }
    offsets
}

/// Whether a step may write one intermediate over another that it reads: a map that visits both alike, or on CPUs a contraction that adds it to its
/// sums where it stores them.
fn in_place(step: &Draft, (read, written): (usize, usize)) -> bool {
    let (inputs, outputs) = (step.problem.inputs(), step.problem.outputs());
    // Factors are read many times, and GPU kernels read ahead.
    let first = match &step.problem {
        Problem::Map(_) => 0,
        Problem::Contraction(_) if step.launch.is_none() => 2,
        _ => return false,
    };
    let same = |i: usize, o: usize| {
        let (x, y) = (&inputs[i], &outputs[o]);
        i >= first && x.view == y.view && x.dtype.bytes() == y.dtype.bytes() && x.view.is_dense()
    };
    let n = inputs.len();
    let reads: Vec<usize> = (0..n).filter(|&i| step.args[i].0 == Buffer::Arena(read)).collect();
    let writes: Vec<usize> = (0..outputs.len()).filter(|&o| step.args[n + o].0 == Buffer::Arena(written)).collect();
    !reads.is_empty() && outputs.len() == 1 && writes.iter().all(|&o| reads.iter().all(|&i| same(i, o)))
}
