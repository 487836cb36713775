//! Chains of products by bands of rows: a thread makes the rows of a stage that the next one reads for its own, while they lie in the second-level
//! cache. Rows that neighbouring bands share are kept; the first band of a thread makes them itself.

use super::{Args, Bound, Cx, Transformed, channelwise, contraction, copied, pairs, part};
use std::ops::Range;
use wpk_plan::problem::{Chain, Contraction, Problem, Source};
use wpk_plan::{DType, WeightLayout};

/// Bytes of intermediate rows that a band keeps, about: half of a second-level cache.
const KEPT: usize = 512 << 10;
/// The least number of bands, of which there are a power of two, so that threads have as many.
const EVEN: usize = 4;
/// Stages, and arguments of one, at most.
const MOST: usize = 16;

/// A product that makes any rows of its result on the thread that asks for them.
pub(super) trait ByRows: Send + Sync {
    /// Rows of the result, and how many, from the first on, are made together.
    fn rows(&self) -> (usize, usize);
    /// The elements of the first argument that some rows read.
    fn reach(&self, rows: &Range<usize>) -> Range<usize>;
    /// As [`Bound::prepare`].
    ///
    /// # Safety
    /// As for [`Bound::run`].
    unsafe fn prepare(&self, _args: &[*mut u8], _known: &mut Transformed) {}
    /// Bytes of scratch memory.
    fn own(&self) -> usize;
    /// Makes some rows, whole ones of those made together.
    ///
    /// # Safety
    /// As for [`Bound::run`], of what these rows read and write alone: pointers are to where the first row would be.
    unsafe fn some(&self, args: &[*mut u8], rows: Range<usize>, own: *mut u8);
}

/// A stage.
struct Link {
    kernel: Box<dyn ByRows>,
    sources: Vec<Source>,
    /// Elements from a row of the result to the next, where another stage reads them.
    apart: usize,
}

impl Link {
    /// Bytes of some rows of the result.
    fn bytes(&self, rows: usize) -> usize {
        rows * self.apart * size_of::<f32>()
    }
}

/// By stage, the rows that a band needs.
type Band = Vec<Range<usize>>;

struct Bands {
    links: Vec<Link>,
    bands: Vec<Band>,
    /// Where in a thread's memory the rows of every stage but the last lie, then the scratch memory of kernels, then the end.
    places: Vec<usize>,
}

pub(super) fn bind(chain: &Chain, layout: WeightLayout) -> Result<Box<dyn Bound>, String> {
    if chain.stages.is_empty() || chain.stages.len() > MOST {
        return Err(format!("a chain has {} stages, not 1 to {MOST}", chain.stages.len()));
    }
    let link = |(at, stage): (usize, &wpk_plan::problem::Stage)| {
        let refused = || format!("stage {at} of a chain is no product whose rows can be made by bands");
        let Problem::Contraction(c) = &stage.problem else { return Err(refused()) };
        let follows = stage.sources.iter().enumerate().all(|(i, s)| match *s {
            Source::Operand(_) => i > 0 || at == 0,
            Source::Stage(of, 0) => i == 0 && of as usize + 1 == at,
            Source::Stage(..) => false,
        });
        let kernel = kernel(c, layout).filter(|_| follows && stage.sources.len() < MOST).ok_or_else(refused)?;
        // What the next stage reads lies in rows.
        let apart = if at + 1 < chain.stages.len() { c.rows_apart().ok_or_else(refused)? } else { 0 };
        Ok(Link { kernel, sources: stage.sources.clone(), apart })
    };
    let links = chain.stages.iter().enumerate().map(link).collect::<Result<Vec<_>, _>>()?;
    Ok(Box::new(Bands::new(links)))
}

fn kernel(c: &Contraction, layout: WeightLayout) -> Option<Box<dyn ByRows>> {
    if c.dtype != DType::F32 || c.sum != DType::F32 || c.out.view.is_empty() || c.inner().contains(&0) {
        return None;
    }
    if let Some(depthwise) = channelwise::by_rows(c) {
        return Some(Box::new(depthwise));
    }
    match layout {
        WeightLayout::Pairs16 => Some(Box::new(copied::bind(c, pairs::form(), false)?)),
        _ => Some(Box::new(contraction::by_rows(c, layout)?)),
    }
}

impl Bands {
    fn new(links: Vec<Link>) -> Self {
        let mut this = Self { links, bands: vec![], places: vec![] };
        let last = this.links.len() - 1;
        let (all, step) = (this.links[last].kernel.rows().0, this.links.iter().map(|l| l.kernel.rows().1).max().unwrap_or(1));
        let units = all.div_ceil(step);
        let bands = |count: usize, this: &Self| -> Vec<Band> {
            (0..count).map(|i| part(units, count, i)).map(|u| this.band(u.start * step..(u.end * step).min(all))).collect()
        };
        let fits = |count: &usize| *count >= units || bands(*count, &this).iter().all(|b| this.bytes(b).iter().sum::<usize>() <= KEPT);
        let count = (0..32).map(|n| EVEN << n).find(fits).unwrap_or(units).min(units);
        this.bands = bands(count, &this);
        let ascend = |pair: &[Band]| pair[0].iter().zip(&pair[1]).all(|(one, next)| one.start <= next.start && one.end <= next.end);
        if !this.bands.windows(2).all(ascend) {
            this.bands = vec![this.band(0..all)];
        }
        let most = |at: usize| this.bands.iter().map(|b| this.bytes(b)[at]).max().unwrap_or(0).next_multiple_of(64);
        let mut sizes: Vec<usize> = (0..last).map(most).collect();
        sizes.push(this.links.iter().map(|l| l.kernel.own()).max().unwrap_or(0));
        let ends = sizes.iter().scan(0, |end, size| {
            *end += size;
            Some(*end)
        });
        this.places = std::iter::once(0).chain(ends).collect();
        this
    }

    /// What some rows of the result need of every stage.
    fn band(&self, rows: Range<usize>) -> Band {
        let mut needed = vec![rows];
        for pair in self.links.windows(2).rev() {
            let [of, reader] = pair else { break };
            let reach = reader.kernel.reach(&needed[needed.len() - 1]);
            let (all, together) = of.kernel.rows();
            let (start, end) = (reach.start / of.apart, reach.end.div_ceil(of.apart));
            needed.push(start / together * together..end.next_multiple_of(together).min(all));
        }
        needed.reverse();
        needed
    }

    /// Bytes of the rows of every stage but the last.
    fn bytes(&self, band: &Band) -> Vec<usize> {
        let inner = self.links.iter().zip(band).take(self.links.len() - 1);
        inner.map(|(link, rows)| link.bytes(rows.len())).collect()
    }

    /// Some bands, in order, on one thread.
    unsafe fn some(&self, bands: &[Band], args: &[*mut u8], own: *mut u8) {
        let last = self.links.len() - 1;
        let scratch = own.wrapping_add(self.places[last]);
        // Of every stage, the rows that lie in its memory.
        let mut held = [(); MOST].map(|()| 0..0);
        for band in bands {
            for (at, (link, needed)) in self.links.iter().zip(band).enumerate() {
                let mut missing = needed.clone();
                if at < last {
                    let (place, bytes) = (own.wrapping_add(self.places[at]), link.bytes(1));
                    let kept = needed.start..held[at].end.max(needed.start);
                    // SAFETY: both lie in the stage's memory, which holds the rows of any band.
                    unsafe { std::ptr::copy(place.wrapping_add((kept.start - held[at].start) * bytes), place, kept.len() * bytes) }
                    missing.start = kept.end;
                    held[at] = needed.clone();
                }
                // Where a stage's first row would be.
                let begin = |at: usize| own.wrapping_add(self.places[at]).wrapping_sub(self.links[at].bytes(held[at].start));
                let mut list = [std::ptr::null_mut(); MOST];
                for (to, source) in list.iter_mut().zip(&link.sources) {
                    *to = match *source {
                        Source::Operand(i) => args[i as usize],
                        Source::Stage(of, _) => begin(of as usize),
                    };
                }
                list[link.sources.len()] = if at < last { begin(at) } else { args[args.len() - 1] };
                // SAFETY: what these rows read was made just now, or is the caller's.
                unsafe { link.kernel.some(&list[..=link.sources.len()], missing, scratch) }
            }
        }
    }
}

impl Bound for Bands {
    fn scratch(&self) -> (usize, usize) {
        (0, self.places[self.places.len() - 1])
    }

    unsafe fn prepare(&self, args: &[*mut u8], known: &mut Transformed) {
        for link in &self.links {
            let own = link.sources.iter().map(|source| match *source {
                Source::Operand(i) => args[i as usize],
                Source::Stage(..) => std::ptr::null_mut(),
            });
            unsafe { link.kernel.prepare(&own.collect::<Vec<_>>(), known) }
        }
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let tasks = cx.pool.threads().min(self.bands.len());
        let arguments = Args(args);
        cx.pool.run(tasks, &|task, thread| unsafe {
            self.some(&self.bands[part(self.bands.len(), tasks, task)], arguments.get(), cx.own(thread));
        });
    }
}
