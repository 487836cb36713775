//! Strided views: how a logical tensor lies in memory.

use crate::codec::codec_struct;

/// A logical tensor over a buffer: element `i` lies at `offset + sum(i[d] * strides[d])`, counted in elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// The element that index zero names.
    pub offset: usize,
    /// The extent of each dimension.
    pub shape: Vec<usize>,
    /// Elements between neighbours, by dimension; 0 repeats, negative runs backwards.
    pub strides: Vec<i64>,
}
codec_struct!(View { offset, shape, strides });

impl View {
    /// The row-major view of a whole buffer.
    pub fn dense(shape: &[usize]) -> Self {
        let mut strides = vec![1i64; shape.len()];
        for d in (1..shape.len()).rev() {
            strides[d - 1] = strides[d].saturating_mul(shape[d].max(1) as i64);
        }
        Self { offset: 0, shape: shape.to_vec(), strides }
    }

    /// Number of logical elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_dense(&self) -> bool {
        let dense = Self::dense(&self.shape);
        self.is_empty() || self.shape.iter().zip(self.strides.iter().zip(&dense.strides)).all(|(&n, (a, b))| n == 1 || a == b)
    }

    /// The smallest and one past the largest element offset, or `None` where the view is empty or starts below zero.
    pub fn span(&self) -> Option<(usize, usize)> {
        let (mut low, mut high) = (self.offset as i64, self.offset as i64);
        for (&n, &s) in self.shape.iter().zip(&self.strides) {
            let reach = (n as i64).checked_sub(1)?.checked_mul(s)?;
            if n == 0 {
                return None;
            }
            low = low.checked_add(reach.min(0))?;
            high = high.checked_add(reach.max(0))?;
        }
        if low < 0 { None } else { Some((low as usize, high as usize + 1)) }
    }

    /// Dimension `d` of the result is dimension `perm[d]` of `self`.
    pub fn transpose(&self, perm: &[usize]) -> Self {
        Self {
            offset: self.offset,
            shape: perm.iter().map(|&p| self.shape[p]).collect(),
            strides: perm.iter().map(|&p| self.strides[p]).collect(),
        }
    }

    /// Broadcasts to `shape` by the rules of numpy; `None` where they do not allow it.
    pub fn broadcast(&self, shape: &[usize]) -> Option<Self> {
        let lead = shape.len().checked_sub(self.shape.len())?;
        let mut strides = vec![0; shape.len()];
        for (d, (&n, &s)) in self.shape.iter().zip(&self.strides).enumerate() {
            if n == shape[lead + d] {
                strides[lead + d] = s;
            } else if n != 1 {
                return None;
            }
        }
        Some(Self { offset: self.offset, shape: shape.to_vec(), strides })
    }

    /// Takes `count[d]` elements of each dimension, from `start[d]` in steps of `step[d]`.
    pub fn slice(&self, start: &[usize], step: &[i64], count: &[usize]) -> Self {
        let offset = start.iter().zip(&self.strides).fold(self.offset as i64, |o, (&b, &s)| o + b as i64 * s);
        Self {
            offset: if count.contains(&0) { self.offset } else { offset.max(0) as usize },
            shape: count.to_vec(),
            strides: self.strides.iter().zip(step).map(|(a, b)| a * b).collect(),
        }
    }

    /// The same elements under another shape, where no copy is needed for it.
    pub fn reshape(&self, shape: &[usize]) -> Option<Self> {
        if self.is_empty() || shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(self.len()) {
            return None;
        }
        let old: Vec<(usize, i64)> = self.shape.iter().zip(&self.strides).filter(|&(&n, _)| n != 1).map(|(&n, &s)| (n, s)).collect();
        let mut strides = vec![0i64; shape.len()];
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            let (mut have, mut want, first) = (old[i].0, 1, j);
            let mut last = i;
            while have != want {
                if have < want {
                    last += 1;
                    if old[last - 1].1 != old[last].0 as i64 * old[last].1 {
                        return None;
                    }
                    have *= old[last].0;
                } else {
                    want *= *shape.get(j)?;
                    j += 1;
                }
            }
            let mut stride = old[last].1;
            for d in (first..j).rev() {
                strides[d] = stride;
                stride *= shape[d] as i64;
            }
            i = last + 1;
        }
        Some(Self { offset: self.offset, shape: shape.to_vec(), strides })
    }

    /// Element offsets in row-major order of the logical index.
    pub fn offsets(&self) -> impl Iterator<Item = usize> + '_ {
        let mut index = vec![0usize; self.shape.len()];
        let mut at = self.offset as i64;
        (0..self.len()).map(move |_| {
            let here = at as usize;
            for d in (0..index.len()).rev() {
                index[d] += 1;
                at += self.strides[d];
                if index[d] < self.shape[d] {
                    break;
                }
                at -= self.strides[d] * self.shape[d] as i64;
                index[d] = 0;
            }
            here
        })
    }
}

#[cfg(test)]
mod tests {
    use super::View;

    #[track_caller]
    fn check(view: &View, shape: &[usize], expected: Option<&[i64]>) {
        let reshaped = view.reshape(shape);
        assert_eq!(reshaped.as_ref().map(|v| v.strides.as_slice()), expected);
        if let Some(reshaped) = reshaped {
            assert!(reshaped.offsets().eq(view.offsets()));
        }
    }

    #[test]
    fn reshape_keeps_the_order_of_elements() {
        let dense = View::dense(&[2, 3, 4]);
        check(&dense, &[6, 4], Some(&[4, 1]));
        check(&dense, &[2, 1, 12], Some(&[12, 12, 1]));
        check(&dense.transpose(&[1, 0, 2]), &[6, 4], None);
        check(&dense.transpose(&[1, 0, 2]), &[3, 2, 2, 2], Some(&[4, 12, 2, 1]));
        check(&dense.slice(&[0, 0, 1], &[1, 1, 2], &[2, 3, 2]), &[6, 2], Some(&[4, 2]));
        check(&View::dense(&[1, 1]), &[1], Some(&[0]));
        check(&dense, &[5, 5], None);
    }

    #[test]
    fn broadcast_repeats_by_stride_zero() {
        let row = View::dense(&[3, 1]).broadcast(&[2, 3, 4]);
        assert_eq!(row.map(|v| v.strides), Some(vec![0, 1, 0]));
        assert_eq!(View::dense(&[3]).broadcast(&[4]), None);
    }
}
