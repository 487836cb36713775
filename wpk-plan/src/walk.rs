//! Walking several views of one shape together.

use crate::View;

/// Dimensions after merging neighbours that are contiguous in every operand.
#[derive(Debug, Clone)]
pub struct Walk {
    /// The extents; at least one.
    pub shape: Vec<usize>,
    /// By operand, the strides in elements.
    pub strides: Vec<Vec<i64>>,
    /// By operand, the first element.
    pub offsets: Vec<i64>,
}

impl Walk {
    /// Merges what can be merged, where `merge` allows it.
    pub fn new(views: &[&View], merge: bool) -> Self {
        let shape = views.first().map(|v| v.shape.clone()).unwrap_or_default();
        let keep: Vec<usize> = (0..shape.len()).filter(|&d| !merge || shape[d] != 1).collect();
        let mut walk = Self {
            shape: keep.iter().map(|&d| shape[d]).collect(),
            strides: views.iter().map(|v| keep.iter().map(|&d| v.strides[d]).collect()).collect(),
            offsets: views.iter().map(|v| v.offset as i64).collect(),
        };
        for d in (1..walk.shape.len()).rev() {
            let n = walk.shape[d] as i64;
            if merge && walk.strides.iter().all(|s| s[d - 1] == s[d] * n) {
                walk.shape[d - 1] *= walk.shape[d];
                walk.shape.remove(d);
                walk.strides.iter_mut().for_each(|s| {
                    let inner = s.remove(d);
                    s[d - 1] = inner;
                });
            }
        }
        if walk.shape.is_empty() {
            walk.shape.push(1);
            walk.strides.iter_mut().for_each(|s| s.push(1));
        }
        walk
    }

    /// Makes the longest dimension along which some operand is contiguous the innermost: order does not matter to a copy.
    pub fn longest_inner(mut self) -> Self {
        let together = |d: usize| self.strides.iter().any(|s| s[d] == 1);
        let best = (0..self.shape.len())
            .filter(|&d| together(d))
            .max_by_key(|&d| (self.shape[d], self.strides.iter().filter(|s| s[d] == 1).count()));
        if let Some(d) = best {
            let extent = self.shape.remove(d);
            self.shape.push(extent);
            self.strides.iter_mut().for_each(|s| {
                let stride = s.remove(d);
                s.push(stride);
            });
        }
        self
    }

    /// Extent of the innermost dimension.
    pub fn inner(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }

    /// Number of innermost rows.
    pub fn rows(&self) -> usize {
        self.shape[..self.shape.len() - 1].iter().product()
    }

    /// Stride of an operand along the innermost dimension.
    pub fn step(&self, operand: usize) -> i64 {
        self.strides[operand][self.shape.len() - 1]
    }

    /// The element of an operand where a row begins.
    pub fn row(&self, operand: usize, row: usize) -> i64 {
        let mut at = self.offsets[operand];
        let mut rest = row;
        for d in (0..self.shape.len() - 1).rev() {
            at += (rest % self.shape[d]) as i64 * self.strides[operand][d];
            rest /= self.shape[d];
        }
        at
    }
}
