//! Numbers that follow from counts: the counts by factors, and a constant. Extents of bounded dimensions are such numbers, and so is most of what models
//! compute from extents.

use super::ValueId;
use std::collections::BTreeMap;
use wpk_plan::{Binary, DType, ScalarFn};

/// A sum of counts by factors and a constant. A count is a scalar value of type `i64`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Linear {
    /// No factor is 0.
    terms: BTreeMap<ValueId, i64>,
    plus: i64,
}

impl Linear {
    /// A number that is known.
    pub fn constant(n: i64) -> Self {
        Self { plus: n, ..Self::default() }
    }

    /// A count.
    pub fn of(count: ValueId) -> Self {
        Self { terms: [(count, 1)].into(), plus: 0 }
    }

    /// The number, where it is known.
    pub fn known(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.plus)
    }

    /// The counts in it with their factors.
    pub fn terms(&self) -> impl Iterator<Item = (ValueId, i64)> {
        self.terms.iter().map(|(&count, &by)| (count, by))
    }

    /// What it is where every count is 0.
    pub fn plus(&self) -> i64 {
        self.plus
    }

    /// `self + by * other`; none where that is out of range.
    pub fn add(&self, other: &Self, by: i64) -> Option<Self> {
        let mut sum = self.clone();
        for (&count, n) in &other.terms {
            let own = sum.terms.entry(count).or_default();
            *own = own.checked_add(n.checked_mul(by)?)?;
        }
        sum.terms.retain(|_, n| *n != 0);
        sum.plus = sum.plus.checked_add(other.plus.checked_mul(by)?)?;
        Some(sum)
    }

    /// By a constant; none where that is out of range.
    pub fn times(&self, by: i64) -> Option<Self> {
        Self::default().add(self, by)
    }

    /// By a divisor of all parts; none where it is none.
    pub fn divided(&self, by: i64) -> Option<Self> {
        let whole = |n: i64| if by != 0 && n.checked_rem(by)? == 0 { n.checked_div(by) } else { None };
        let terms = self.terms.iter().map(|(&count, &n)| Some((count, whole(n)?)));
        Some(Self { terms: terms.collect::<Option<_>>()?, plus: whole(self.plus)? })
    }

    /// How often another number goes into it, where a known rest is left.
    pub fn rest(&self, by: &Self) -> Option<(i64, i64)> {
        let (count, n) = by.terms().next()?;
        let times = self.terms.get(&count).copied().unwrap_or(0).checked_div(n)?;
        Some((times, self.add(by, times.checked_neg()?)?.known()?))
    }

    /// The least and the most it can be, by those of counts.
    pub fn span(&self, range: impl Fn(ValueId) -> (i64, i64)) -> (i64, i64) {
        let mut span = (i128::from(self.plus), i128::from(self.plus));
        for (&count, &by) in &self.terms {
            let (low, high) = range(count);
            let ends = [low, high].map(|n| i128::from(n) * i128::from(by));
            span = (span.0 + ends[0].min(ends[1]), span.1 + ends[0].max(ends[1]));
        }
        let narrow = |n: i128| n.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        (narrow(span.0), narrow(span.1))
    }

    /// The number within a function that has the counts, in order, as values of type `i64`.
    pub fn within(&self, f: &mut ScalarFn, counts: &[u16]) -> u16 {
        let mut sum = None;
        for (&count, &by) in counts.iter().zip(self.terms.values()) {
            let part = if by == 1 {
                count
            } else {
                let by = f.integer(by, DType::I64);
                f.binary(Binary::Mul, count, by)
            };
            sum = Some(sum.map_or(part, |s| f.binary(Binary::Add, s, part)));
        }
        match (sum, self.plus) {
            (Some(sum), 0) => sum,
            (Some(sum), plus) => {
                let plus = f.integer(plus, DType::I64);
                f.binary(Binary::Add, sum, plus)
            }
            (None, plus) => f.integer(plus, DType::I64),
        }
    }
}

/// Reads `2*past + sequence + 1` and the like as names by factors, and a constant.
pub fn parse(text: &str) -> Option<(BTreeMap<String, i64>, i64)> {
    let (mut terms, mut plus) = (BTreeMap::new(), 0i64);
    let spaced = text.replace('-', "+-");
    for term in spaced.split('+').map(str::trim).filter(|t| !t.is_empty()) {
        let (sign, term) = term.strip_prefix('-').map_or((1, term), |rest| (-1, rest));
        let (mut by, mut name) = (sign, None);
        for factor in term.split('*').map(str::trim) {
            match factor.parse::<i64>() {
                Ok(n) => by = i64::checked_mul(by, n)?,
                Err(_) if name.is_none() && factor.chars().all(|c| c.is_alphanumeric() || "_.".contains(c)) && !factor.is_empty() => {
                    name = Some(factor.to_owned());
                }
                Err(_) => return None,
            }
        }
        match name {
            Some(name) => {
                let sum: &mut i64 = terms.entry(name).or_default();
                *sum = sum.checked_add(by)?;
            }
            None => plus = plus.checked_add(by)?,
        }
    }
    (!terms.is_empty()).then_some((terms, plus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_names() {
        let read = |text: &str| {
            parse(text).map(|(t, n)| (t.into_iter().map(|(name, by)| format!("{by} {name}")).collect::<Vec<_>>().join(" "), n))
        };
        assert_eq!(read("past + 1"), Some(("1 past".to_owned(), 1)));
        assert_eq!(read("past_sequence_length + sequence_length"), Some(("1 past_sequence_length 1 sequence_length".to_owned(), 0)));
        assert_eq!(read("2*s0 - 3"), Some(("2 s0".to_owned(), -3)));
        assert_eq!(read("8"), None);
        assert_eq!(read("floor(n/2)"), None);
        assert_eq!(read("n*m"), None);
        assert_eq!(read("9223372036854775807*n + n"), None);
    }
}
