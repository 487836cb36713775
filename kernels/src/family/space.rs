//! What a search chooses from: every legal schedule of every family that computes a problem, and the kernel of any of them.

use super::{
    Bf16x3, Bulk, Direct, Flash, Folded, Generated, Halo, IndexProblem, Indexed, Levels, LineProblem, Lines, LongRows, Mma, Packed, Pairs,
    PingPong, Pointwise, Product, Ranks, Reduction, RowProblem, Rows, Scatter, ScatterProblem, Simt, Strict, Unsupported, WgFlash, Wgmma,
    Windows, attention, bf16x3, bulk, direct, for_cpus, halo, indexed, levels, lines, long_rows, mma, packed, pairs, pingpong, pointwise,
    ranks, reduction, rows, scatter, simt, starts_early, strict, wgflash, wgmma, windows,
};
use crate::arch::Arch;
use crate::ptx::Kernel;
use crate::schedule::{Param, Schedule};
use std::rc::Rc;
use wpk_plan::problem::Problem;
use wpk_plan::{DType, WeightLayout};

/// A legal schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The family's name in records.
    pub family: &'static str,
    /// The values of the family's parameters, in their order.
    pub values: Vec<u32>,
    /// Estimated nanoseconds.
    pub cost: f64,
}

/// A function of a schedule's values.
type OfValues<'a, T> = Box<dyn Fn(&[u32]) -> T + 'a>;

/// A family for a given problem.
pub struct Space<'a> {
    /// The family's name in records.
    pub family: &'static str,
    /// Its parameters.
    pub params: &'static [Param],
    /// Whether its kernels may start before those they depend on have ended.
    early: bool,
    /// Estimates choose among the families of the first turn that has a kernel.
    pub(super) turn: u32,
    estimate: OfValues<'a, Option<f64>>,
    generate: OfValues<'a, Result<(Kernel, String), Unsupported>>,
    all: Box<dyn Fn() -> Vec<Candidate> + 'a>,
    cheapest: Box<dyn Fn() -> Option<Candidate> + 'a>,
}

impl Space<'_> {
    /// Estimated nanoseconds of a schedule; `None` where it is not legal.
    pub fn estimate(&self, values: &[u32]) -> Option<f64> {
        (self.estimate)(values)
    }

    /// The kernel of a schedule.
    ///
    /// # Errors
    /// Where it is not legal, or cannot be generated.
    pub fn generate(&self, values: &[u32]) -> Result<Generated, Unsupported> {
        let cost = self.estimate(values).ok_or_else(|| Unsupported(format!("{} {values:?} is not legal", self.family)))?;
        (self.generate)(values).map(|(kernel, schedule)| Generated { kernel, family: self.family, schedule, cost }.early(self.early))
    }

    /// The schedule of least estimate.
    pub fn cheapest(&self) -> Option<Candidate> {
        (self.cheapest)()
    }

    /// Every legal schedule.
    pub fn all(&self) -> Vec<Candidate> {
        (self.all)()
    }
}

fn space<'a, S: Schedule>(
    problem: S::Problem,
    arch: &'a Arch,
    make: impl Fn(&S::Problem, &S) -> Result<Kernel, Unsupported> + 'a,
) -> Space<'a>
where
    S::Problem: 'a,
    S::Facts: 'a,
{
    let facts = Rc::new(S::facts(&problem, arch));
    let (of_all, of_cheapest) = (facts.clone(), facts.clone());
    let candidate = |s: S, facts: &S::Facts| Candidate { family: S::FAMILY, values: s.values(), cost: s.cost(facts) };
    let known = |values: &[u32]| values.len() == S::PARAMS.len() && values.iter().zip(S::PARAMS).all(|(v, p)| p.values.contains(v));
    Space {
        family: S::FAMILY,
        params: S::PARAMS,
        early: false,
        turn: 0,
        estimate: Box::new(move |values| {
            let s = known(values).then(|| S::from_values(values)).filter(|s| s.legal(&facts))?;
            Some(s.cost(&facts))
        }),
        generate: Box::new(move |values| {
            let s = S::from_values(values);
            make(&problem, &s).map(|kernel| (kernel, s.to_string()))
        }),
        all: Box::new(move || {
            let legal = S::space().filter(|s| s.legal(&of_all));
            legal.map(|s| candidate(s, &of_all)).collect()
        }),
        cheapest: Box::new(move || S::cheapest(&of_cheapest).map(|s| candidate(s, &of_cheapest))),
    }
}

/// The families that compute a problem.
pub fn spaces<'a>(problem: &Problem, layout: WeightLayout, arch: &'a Arch) -> Vec<Space<'a>> {
    families(problem, layout, arch).into_iter().map(|space| Space { early: starts_early(problem), ..space }).collect()
}

fn families<'a>(problem: &Problem, layout: WeightLayout, arch: &'a Arch) -> Vec<Space<'a>> {
    match problem {
        _ if for_cpus(layout) => vec![],
        Problem::Map(p) => vec![space::<Pointwise>(p.clone(), arch, move |p, s| pointwise(p, s, arch))],
        Problem::Contraction(c) => {
            let product = Product { contraction: c.clone(), layout };
            if layout.levels().is_some() {
                return vec![space::<Levels>(product, arch, move |p, s| levels(p, s, arch))];
            }
            let mut all = vec![
                space::<Mma>(product.clone(), arch, move |p, s| mma(p, s, arch)),
                space::<Wgmma>(product.clone(), arch, move |p, s| wgmma(p, s, arch)),
                space::<Bulk>(product.clone(), arch, move |p, s| bulk(p, s, arch)),
                space::<PingPong>(product.clone(), arch, move |p, s| pingpong(p, s, arch)),
                space::<Strict>(product.clone(), arch, move |p, s| strict(p, s, arch)),
                space::<Bf16x3>(product.clone(), arch, move |p, s| bf16x3(p, s, arch)),
                space::<Halo>(product.clone(), arch, move |p, s| halo(p, s, arch)),
                space::<Packed>(product.clone(), arch, move |p, s| packed(p, s, arch)),
                space::<Pairs>(product, arch, move |p, s| pairs(p, s, arch)),
                space::<Simt>(c.clone(), arch, move |c, s| simt(c, layout, s, arch)),
            ];
            // The others take longer to copy few channels than they estimate.
            all.iter_mut().filter(|s| ![Packed::FAMILY, Pairs::FAMILY].contains(&s.family)).for_each(|s| s.turn = 1);
            if layout == WeightLayout::Dense {
                // Where nothing is shared between threads it comes first, else last.
                let first = c.roles().n.is_empty() || c.dtype == DType::F64;
                let alone = space::<Direct>(c.clone(), arch, move |c, s| direct(c, s, arch));
                all.push(Space { turn: if first { 0 } else { 2 }, ..alone });
            }
            all
        }
        Problem::Reduce(r) => vec![space::<Reduction>(Folded::from(r), arch, move |f, s| reduction(f, s, arch))],
        Problem::Window(w) => {
            vec![match Folded::window(w) {
                Some(f) => space::<Reduction>(f, arch, move |f, s| reduction(f, s, arch)),
                None => space::<Windows>(w.clone(), arch, move |w, s| windows(w, s, arch)),
            }]
        }
        Problem::Softmax(p) => by_rows(|| RowProblem::Softmax(p.clone()), arch),
        Problem::Normalize(p) => by_rows(|| RowProblem::Normalize(Box::new(p.clone())), arch),
        Problem::Attention(p) => vec![
            space::<Flash>(p.clone(), arch, move |p, s| attention(p, s, arch)),
            space::<WgFlash>(p.clone(), arch, move |p, s| wgflash(p, s, arch)),
        ],
        Problem::Gather(p) => vec![space::<Indexed>(IndexProblem::Gather(p.clone()), arch, move |p, s| indexed(p, s, arch))],
        Problem::Scan(p) => vec![space::<Lines>(LineProblem::Scan(p.clone()), arch, move |p, s| lines(p, s, arch))],
        Problem::ArgReduce(p) => vec![space::<Lines>(LineProblem::ArgReduce(p.clone()), arch, move |p, s| lines(p, s, arch))],
        Problem::GatherElements(p) => vec![space::<Indexed>(IndexProblem::Elements(p.clone()), arch, move |p, s| indexed(p, s, arch))],
        Problem::GatherNd(p) => vec![space::<Indexed>(IndexProblem::Blocks(p.clone()), arch, move |p, s| indexed(p, s, arch))],
        Problem::Resample(p) => vec![space::<Indexed>(IndexProblem::Resample(p.clone()), arch, move |p, s| indexed(p, s, arch))],
        Problem::TopK(p) => vec![space::<Ranks>(p.clone(), arch, move |p, s| ranks(p, s, arch))],
        Problem::ScatterElements(p) => vec![space::<Scatter>(ScatterProblem::Elements(p.clone()), arch, move |p, s| scatter(p, s, arch))],
        Problem::ScatterNd(p) => vec![space::<Scatter>(ScatterProblem::Blocks(p.clone()), arch, move |p, s| scatter(p, s, arch))],
        _ => vec![],
    }
}

fn by_rows<'a>(problem: impl Fn() -> RowProblem, arch: &'a Arch) -> Vec<Space<'a>> {
    vec![
        space::<Rows>(problem(), arch, move |p, s| rows(p, s, arch)),
        space::<LongRows>(problem(), arch, move |p, s| long_rows(p, s, arch)),
    ]
}
