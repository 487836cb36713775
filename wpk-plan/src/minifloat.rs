//! Floating types of at most 8 bits, as [ONNX](https://onnx.ai/onnx/technical/float8.html), the OCP 8-bit floating point specification and
//! the OCP microscaling formats specification define them.

use crate::DType;

/// How a type of at most 8 bits spells numbers: a sign where it has one, an exponent, a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    signed: bool,
    exponent: u32,
    /// Bits of the fraction.
    pub fraction: u32,
    /// What the exponent stands above zero.
    pub bias: i32,
    /// What is no finite number.
    pub special: Special,
}

/// What is no finite number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// The highest exponent: infinity without a fraction, else not a number.
    Ieee,
    /// All bits set but the sign: not a number.
    Ones,
    /// What negative zero would be: not a number.
    NegativeZero,
    /// Nothing: what is too large becomes the largest number, and what is none negative zero.
    Nothing,
}

impl Format {
    /// Of an element type.
    pub const fn of(dtype: DType) -> Option<Self> {
        let (signed, exponent, fraction, bias, special) = match dtype {
            DType::F8E4M3 => (true, 4, 3, 7, Special::Ones),
            DType::F8E4M3Fnuz => (true, 4, 3, 8, Special::NegativeZero),
            DType::F8E5M2 => (true, 5, 2, 15, Special::Ieee),
            DType::F8E5M2Fnuz => (true, 5, 2, 16, Special::NegativeZero),
            DType::F8E8M0 => (false, 8, 0, 127, Special::Ones),
            DType::F4E2M1 => (true, 2, 1, 1, Special::Nothing),
            _ => return None,
        };
        Some(Self { signed, exponent, fraction, bias, special })
    }

    /// The bit of the sign, or none.
    pub fn sign(self) -> u8 {
        if self.signed { 1 << (self.exponent + self.fraction) } else { 0 }
    }

    /// All bits but the sign.
    pub fn ones(self) -> u8 {
        ((1u32 << (self.exponent + self.fraction)) - 1) as u8
    }

    /// Whether the lowest exponent stands for numbers without a leading one.
    pub fn subnormal(self) -> bool {
        self.fraction > 0
    }

    /// The bits of the largest number.
    pub fn largest(self) -> u8 {
        match self.special {
            Special::Ieee => self.ones() - (1 << self.fraction),
            Special::Ones => self.ones() - 1,
            Special::NegativeZero | Special::Nothing => self.ones(),
        }
    }

    /// The largest number.
    pub fn max(self) -> f64 {
        self.magnitude(self.largest())
    }

    /// The number of bits without a sign.
    fn magnitude(self, bits: u8) -> f64 {
        let (exponent, fraction) = (i32::from(bits) >> self.fraction, f64::from(u32::from(bits) & ((1 << self.fraction) - 1)));
        let unit = f64::from(1u32 << self.fraction);
        if exponent == 0 && self.subnormal() {
            fraction / unit * 2f64.powi(1 - self.bias)
        } else {
            (1.0 + fraction / unit) * 2f64.powi(exponent - self.bias)
        }
    }

    /// The number that bits stand for.
    pub fn decode(self, bits: u8) -> f64 {
        let (negative, bits) = (bits & self.sign() != 0, bits & self.ones());
        let magnitude = match self.special {
            Special::NegativeZero if negative && bits == 0 => f64::NAN,
            Special::Ones if bits == self.ones() => f64::NAN,
            Special::Ieee if bits > self.largest() => {
                if bits == self.largest() + 1 {
                    f64::INFINITY
                } else {
                    f64::NAN
                }
            }
            _ => self.magnitude(bits),
        };
        if negative { -magnitude } else { magnitude }
    }

    /// The bits of the nearest number, of two the even one; in a type of powers of two, of the next one above, as ONNX converts by
    /// default. What is too large becomes infinite, or not a number where there is no infinity; without either the largest number.
    pub fn encode(self, x: f64) -> u8 {
        let sign = if x.is_sign_negative() { self.sign() } else { 0 };
        if x.is_nan() {
            return match self.special {
                Special::Ieee | Special::Ones => sign | self.ones(),
                Special::NegativeZero => self.sign(),
                Special::Nothing => self.sign(),
            };
        }
        // Magnitudes grow with their bits, so the nearest is beside where the number would stand.
        let x = x.abs();
        let (mut low, mut high) = (0, u32::from(self.largest()) + 1);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if self.magnitude(middle as u8) <= x { low = middle } else { high = middle }
        }
        let below = self.magnitude(low as u8);
        // One beyond the largest is what the next number would be.
        let last = low == u32::from(self.largest());
        let above = if last { below + (below - self.magnitude(low as u8 - 1)) } else { self.magnitude(high as u8) };
        let up = match self.fraction {
            0 => x > below,
            _ => x - below > above - x || x - below == above - x && low % 2 == 1,
        };
        let bits = match self.special {
            Special::Nothing if last => low as u8,
            _ if x.is_infinite() || up && last => match self.special {
                Special::Ieee => self.largest() + 1,
                Special::Ones => self.ones(),
                Special::NegativeZero => return self.sign(),
                Special::Nothing => self.largest(),
            },
            _ => (low + u32::from(up)) as u8,
        };
        if bits == 0 && self.special == Special::NegativeZero { 0 } else { sign | bits }
    }

    /// The number that an element of the type keeps of another.
    pub fn round(self, x: f64) -> f64 {
        self.decode(self.encode(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DType; 6] = [DType::F8E4M3, DType::F8E4M3Fnuz, DType::F8E5M2, DType::F8E5M2Fnuz, DType::F8E8M0, DType::F4E2M1];

    #[test]
    fn numbers_survive() {
        for dtype in ALL {
            let f = Format::of(dtype).unwrap();
            for bits in 0..=(f.ones() | f.sign()) {
                let x = f.decode(bits);
                assert!(x.is_nan() || f.encode(x) == bits, "{dtype} {bits:#x} is {x}, which is {:#x}", f.encode(x));
            }
        }
    }

    #[test]
    fn numbers_as_the_specifications_state_them() {
        use DType::{F4E2M1, F8E4M3, F8E4M3Fnuz, F8E5M2, F8E5M2Fnuz, F8E8M0};
        let largest = [448.0, 240.0, 57344.0, 57344.0, 2f64.powi(127), 6.0];
        for (dtype, x) in ALL.iter().zip(largest) {
            assert_eq!(Format::of(*dtype).unwrap().max(), x, "{dtype}");
        }
        let nan = f64::NAN;
        let cases = [
            (F8E4M3, 464.0, 448.0),
            (F8E4M3, 465.0, nan),
            (F8E4M3, -1e9, nan),
            (F8E4M3, 0.001, 2f64.powi(-9)),
            (F8E4M3, 19.0, 20.0),
            (F8E4M3, 17.0, 16.0),
            (F8E4M3Fnuz, f64::INFINITY, nan),
            (F8E4M3Fnuz, -1e-9, 0.0),
            (F8E5M2, 61440.0, f64::INFINITY),
            (F8E5M2, -61439.0, -57344.0),
            (F8E5M2, -f64::INFINITY, -f64::INFINITY),
            (F8E5M2Fnuz, 1e6, nan),
            (F8E8M0, 3.0, 4.0),
            (F8E8M0, 2.1, 4.0),
            (F8E8M0, 2.0, 2.0),
            (F8E8M0, 0.0, 2f64.powi(-127)),
            (F4E2M1, 2.5, 2.0),
            (F4E2M1, 3.5, 4.0),
            (F4E2M1, -100.0, -6.0),
            (F4E2M1, 0.25, 0.0),
        ];
        for (dtype, x, y) in cases {
            let z = Format::of(dtype).unwrap().round(x);
            assert!(z == y || z.is_nan() && y.is_nan(), "{x} as {dtype} is {z} instead of {y}");
        }
    }
}
