//! What convolutions and pooling share: windows over spatial dimensions.

use super::context::{Context, Refusal, unsigned};

/// A window over the spatial dimensions.
pub struct Spatial {
    /// Elements from one window to the next.
    pub strides: Vec<usize>,
    /// Elements between neighbours of the window.
    pub dilations: Vec<usize>,
    /// Padding before.
    pub begin: Vec<i64>,
    /// Padding after.
    pub end: Vec<i64>,
    /// `auto_pad`, where it decides the padding.
    pub auto: Option<Auto>,
}

/// Padding that follows from the extents.
#[derive(Clone, Copy, PartialEq)]
pub enum Auto {
    /// As many outputs as strides fit, the odd element of padding after.
    Upper,
    /// The same with the odd element before.
    Lower,
    /// None.
    Valid,
}

/// Reads the attributes of a window over `rank` dimensions.
pub fn spatial(cx: &Context<'_>, rank: usize) -> Result<Spatial, Refusal> {
    let list = |name: &str, n: usize, default: i64| {
        let values = cx.attrs.ints(name).unwrap_or_else(|| vec![default; n]);
        if values.len() == n { Ok(values) } else { Err(Refusal::from(format!("{name} {values:?} does not have {n} entries"))) }
    };
    let positive = |name: &str| {
        let values = unsigned(&list(name, rank, 1)?, name)?;
        if values.iter().any(|&v| v > 1 << 31) {
            return Err(Refusal::from(format!("{name} {values:?} are out of range")));
        }
        if values.contains(&0) { Err(Refusal::from(format!("{name} {values:?} has a zero"))) } else { Ok(values) }
    };
    let pads = list("pads", 2 * rank, 0)?;
    if pads.iter().any(|p| p.unsigned_abs() > 1 << 31) {
        return Err(format!("pads {pads:?} are out of range").into());
    }
    let auto = match cx.attrs.text("auto_pad").as_deref() {
        None | Some("NOTSET" | "") => None,
        Some("SAME_UPPER") => Some(Auto::Upper),
        Some("SAME_LOWER") => Some(Auto::Lower),
        Some("VALID") => Some(Auto::Valid),
        Some(other) => return cx.unsupported("auto_pad", other),
    };
    Ok(Spatial {
        strides: positive("strides")?,
        dilations: positive("dilations")?,
        begin: pads[..rank].to_vec(),
        end: pads[rank..].to_vec(),
        auto,
    })
}

impl Spatial {
    /// The extents of the result for a window of `kernel` over `input`, with `auto_pad` resolved into the padding.
    pub fn resolve(&mut self, input: &[usize], kernel: &[usize], ceil: bool) -> Result<Vec<usize>, Refusal> {
        let mut out = vec![];
        for d in 0..kernel.len() {
            let reach = (kernel[d] as i64 - 1).saturating_mul(self.dilations[d] as i64).saturating_add(1).min(1 << 48);
            let (n, stride) = (input[d] as i64, self.strides[d] as i64);
            if let Some(auto) = self.auto {
                let wanted = (n + stride - 1) / stride;
                let total = if auto == Auto::Valid { 0 } else { ((wanted - 1) * stride + reach - n).max(0) };
                let less = total / 2;
                (self.begin[d], self.end[d]) = if auto == Auto::Lower { (total - less, less) } else { (less, total - less) };
            }
            let room = n + self.begin[d] + self.end[d] - reach;
            if room < 0 {
                return Err(
                    format!("a window of {reach} does not fit {n} elements with padding {} and {}", self.begin[d], self.end[d]).into()
                );
            }
            let mut count = room / stride + 1;
            // A window that starts in the padding after the last element does not count.
            if ceil && room % stride != 0 && count * stride < n + self.begin[d] {
                count += 1;
            }
            out.push(count as usize);
        }
        Ok(out)
    }
}

/// The number of spatial dimensions of an input and its weights.
pub fn rank(shape: &[usize], weights: &[usize]) -> Result<usize, Refusal> {
    let rank = shape.len().checked_sub(2).filter(|&r| r > 0 && weights.len() == r + 2);
    rank.ok_or_else(|| format!("{shape:?} and weights {weights:?} do not fit").into())
}
