//! The weight blob: which constants the plan reads, in which layout.

use crate::graph::Literal;
use crate::hash;
use half::f16;
use std::collections::BTreeMap;
use std::io::{self, Write};
use wpk_plan::number::tf32;
use wpk_plan::problem::Contraction;
use wpk_plan::{DType, Section, WeightLayout};

/// The sections of a model, shared by its buckets.
#[derive(Default)]
pub struct Weights {
    blob: Blob,
    known: BTreeMap<u128, u32>,
    /// Whether equal weights are not told apart, which spares reading them.
    untold: bool,
}

/// Sections with what they are made from; nothing is packed before it is written.
#[derive(Default)]
pub struct Blob {
    /// Where each section lies.
    pub sections: Vec<Section>,
    sources: Vec<Source>,
}

enum Source {
    Dense(Literal),
    Panels(Literal, Box<Contraction>),
    Halves(Literal, Box<Contraction>),
    Pairs(Literal, Box<Contraction>),
    Quads(Literal, Box<Contraction>),
    Levels(Literal, Vec<u8>),
    Columns(Literal, Box<Contraction>),
    Channels(Literal, Vec<usize>),
}

impl Weights {
    /// For plans that are only compared: weights are neither read nor shared.
    pub fn untold() -> Self {
        Self { untold: true, ..Self::default() }
    }

    /// All sections so far.
    pub fn into_blob(self) -> Blob {
        self.blob
    }

    /// Bytes of every section so far.
    pub(super) fn section_bytes(&self) -> Vec<usize> {
        self.blob.sections.iter().map(|s| s.bytes).collect()
    }

    fn add(&mut self, source: Source, dtype: DType, layout: WeightLayout, shape: Vec<usize>, description: &str) -> u32 {
        let literal = match &source {
            Source::Dense(l)
            | Source::Panels(l, _)
            | Source::Halves(l, _)
            | Source::Pairs(l, _)
            | Source::Quads(l, _)
            | Source::Levels(l, _)
            | Source::Columns(l, _)
            | Source::Channels(l, _) => l,
        };
        let key = if self.untold {
            u128::from(self.blob.sections.len() as u32)
        } else {
            hash::hash(format!("{description} {:032x}", hash::hash(&literal.bytes)).as_bytes())
        };
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        let index = self.blob.sections.len() as u32;
        let bytes = shape.iter().product::<usize>() * dtype.bytes();
        let offset = self.blob.sections.last().map_or(0, |s| (s.offset + s.bytes).next_multiple_of(64));
        self.blob.sections.push(Section { offset, bytes, dtype, layout, shape });
        self.blob.sources.push(source);
        self.known.insert(key, index);
        index
    }

    /// A constant as it is.
    pub fn dense(&mut self, literal: &Literal) -> u32 {
        let description = format!("dense {} {:?}", literal.dtype, literal.shape);
        self.add(Source::Dense(literal.clone()), literal.dtype, WeightLayout::Dense, literal.shape.clone(), &description)
    }

    /// The second factor of a contraction in panels; `None` where it cannot be packed.
    pub fn panels(&mut self, literal: &Literal, c: &Contraction) -> Option<u32> {
        let roles = c.roles();
        let packable = literal.dtype == DType::F32 && roles.offsets(&c.b, &roles.batch).is_some();
        let strides: Option<Vec<i64>> = (0..c.space.len()).map(|l| c.b.stride(l, &c.space)).collect();
        let strides = strides.filter(|_| packable)?;
        let shape = vec![roles.packed_len()];
        let description = format!("panels {:?} {roles:?} {strides:?} {}", literal.shape, c.b.base());
        Some(self.add(Source::Panels(literal.clone(), Box::new(c.clone())), DType::F32, WeightLayout::Panels16, shape, &description))
    }

    /// The second factor of a contraction in panels of binary16; `None` where it cannot be packed, or is too large for that.
    pub fn halves(&mut self, literal: &Literal, c: &Contraction) -> Option<u32> {
        let (roles, most) = (c.roles(), f16::MAX.to_f32());
        let strides: Option<Vec<i64>> = (0..c.space.len()).map(|l| c.b.stride(l, &c.space)).collect();
        let strides = strides.filter(|_| literal.dtype == DType::F32 && floats(literal).all(|x| x.abs() <= most))?;
        let shape = vec![roles.packed_len()];
        let description = format!("halves {:?} {roles:?} {strides:?} {}", literal.shape, c.b.base());
        Some(self.add(Source::Halves(literal.clone(), Box::new(c.clone())), DType::F16, WeightLayout::Halves16, shape, &description))
    }

    /// The second factor of a contraction in panels of bfloat16 pairs; `None` where it cannot be packed.
    pub fn pairs(&mut self, literal: &Literal, c: &Contraction) -> Option<u32> {
        let roles = c.roles();
        let even = roles.channel.is_some_and(|l| c.space[l].is_multiple_of(2));
        let strides: Option<Vec<i64>> = (0..c.space.len()).map(|l| c.b.stride(l, &c.space)).collect();
        let strides = strides.filter(|_| even && literal.dtype == DType::F32)?;
        let shape = vec![roles.packed_len()];
        let description = format!("pairs {:?} {roles:?} {strides:?} {}", literal.shape, c.b.base());
        Some(self.add(Source::Pairs(literal.clone(), Box::new(c.clone())), DType::BF16, WeightLayout::Pairs16, shape, &description))
    }

    /// The second factor of a contraction in panels of quads of bytes; `None` where it cannot be packed.
    pub fn quads(&mut self, literal: &Literal, c: &Contraction) -> Option<u32> {
        let roles = c.roles();
        let strides: Option<Vec<i64>> = (0..c.space.len()).map(|l| c.b.stride(l, &c.space)).collect();
        let strides = strides.filter(|_| literal.dtype == DType::I8)?;
        let shape = vec![roles.quads_len()];
        let description = format!("quads {:?} {roles:?} {strides:?} {}", literal.shape, c.b.base());
        Some(self.add(Source::Quads(literal.clone(), Box::new(c.clone())), DType::I8, WeightLayout::Quads16, shape, &description))
    }

    /// The second factor of a product of matrices as the levels that it was made of, in panels; `None` where it was made of none, or they do
    /// not fit.
    pub fn levels(&mut self, literal: &Literal, c: &Contraction) -> Option<(u32, WeightLayout)> {
        let (roles, known) = (c.roles(), literal.quantized.as_ref()?);
        let summed = (c.outer..c.space.len()).filter(|&l| c.space[l] > 1).count();
        if summed > 1 || !literal.dtype.is_float() || known.levels.shape != literal.shape {
            return None;
        }
        let layouts: &[WeightLayout] = match known.levels.dtype {
            DType::I8 => &[WeightLayout::Nibbles16, WeightLayout::Bytes16],
            DType::F8E4M3 => &[WeightLayout::E4m3x16],
            DType::F8E5M2 => &[WeightLayout::E5m2x16],
            DType::F4E2M1 => &[WeightLayout::E2m1x16],
            _ => return None,
        };
        // Numbers of four bits by those bits, with the sign that they would have as an integer.
        let four = known.levels.dtype == DType::F4E2M1;
        let level = |b: u8| if four { (b << 4) as i8 >> 4 } else { b as i8 };
        let levels: Vec<f32> = known.levels.bytes.iter().map(|&b| f32::from(level(b))).collect();
        let scale = known.scale.as_ref().filter(|s| s.dtype == DType::F32)?;
        let by = wpk_plan::View::dense(&scale.shape).broadcast(&literal.shape)?;
        let each: Vec<f32> = scale.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let scales: Vec<f32> = by.offsets().map(|at| each[at]).collect();
        let mut layouts = layouts.iter().filter_map(|&layout| Some((layout.levels()?, layout)));
        let (bits, layout) = layouts.find(|(bits, _)| {
            let most = (1 << (bits - 1)) as f32;
            levels.iter().all(|l| (-most..most).contains(l))
        })?;
        let packed = roles.levels(&c.b, &levels, &scales, bits)?;
        let description = format!("{layout} {:?} {roles:?} {:?}", literal.shape, c.b);
        Some((self.add(Source::Levels(literal.clone(), packed), DType::U8, layout, vec![roles.levels_len(bits)], &description), layout))
    }

    /// The second factor of a contraction in columns, rounded to TF32 where that is what it is multiplied in; `None` where it
    /// cannot be packed.
    pub fn columns(&mut self, literal: &Literal, c: &Contraction) -> Option<u32> {
        let roles = c.roles();
        let strides: Option<Vec<i64>> = (0..c.space.len()).map(|l| c.b.stride(l, &c.space)).collect();
        let strides = strides.filter(|_| literal.dtype == c.dtype)?;
        let shape = vec![roles.count(&roles.batch), roles.count(&roles.n), roles.column_len(c.dtype.bytes())];
        let description = format!("columns {:?} {roles:?} {strides:?} {} {}", literal.shape, c.b.base(), c.tf32);
        Some(self.add(Source::Columns(literal.clone(), Box::new(c.clone())), c.dtype, WeightLayout::Columns, shape, &description))
    }

    /// A constant with its dimensions in another order.
    pub fn permuted(&mut self, literal: &Literal, perm: Vec<usize>) -> u32 {
        let shape = perm.iter().map(|&p| literal.shape[p]).collect();
        let description = format!("permuted {} {:?} {perm:?}", literal.dtype, literal.shape);
        self.add(Source::Channels(literal.clone(), perm), literal.dtype, WeightLayout::Dense, shape, &description)
    }
}

/// The elements of a constant of `f32`.
fn floats(literal: &Literal) -> impl Iterator<Item = f32> {
    literal.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
}

impl Blob {
    /// Bytes of the whole.
    pub fn len(&self) -> usize {
        self.sections.last().map_or(0, |s| s.offset + s.bytes)
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes every section in order.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut at = 0;
        for (section, source) in self.sections.iter().zip(&self.sources) {
            out.write_all(&vec![0; section.offset - at])?;
            match source {
                Source::Dense(literal) => out.write_all(&literal.bytes)?,
                Source::Panels(literal, c) => {
                    let data: Vec<f32> = floats(literal).collect();
                    let packed = c.roles().pack(&c.b, &data).unwrap_or_default();
                    let mut bytes = Vec::with_capacity(packed.len() * 4);
                    packed.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
                    out.write_all(&bytes)?;
                }
                Source::Halves(literal, c) => {
                    let packed = c.roles().pack(&c.b, &floats(literal).collect::<Vec<_>>()).unwrap_or_default();
                    out.write_all(&packed.into_iter().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect::<Vec<u8>>())?;
                }
                Source::Pairs(literal, c) => {
                    let data: Vec<f32> = floats(literal).collect();
                    let packed = c.roles().pairs(&c.b, &data).unwrap_or_default();
                    out.write_all(&packed.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<u8>>())?;
                }
                Source::Levels(_, packed) => out.write_all(packed)?,
                Source::Quads(literal, c) => out.write_all(&c.roles().quads(&c.b, &literal.bytes).unwrap_or_default())?,
                Source::Columns(literal, c) if c.tf32 => {
                    let rounded: Vec<u8> = floats(literal).flat_map(|x| tf32(x).to_le_bytes()).collect();
                    out.write_all(&c.roles().columns(&c.b, &rounded, 4).unwrap_or_default())?;
                }
                Source::Columns(literal, c) => {
                    out.write_all(&c.roles().columns(&c.b, &literal.bytes, c.dtype.bytes()).unwrap_or_default())?;
                }
                Source::Channels(literal, perm) => {
                    let size = literal.dtype.bytes();
                    let view = wpk_plan::View::dense(&literal.shape).transpose(perm);
                    let mut bytes = Vec::with_capacity(literal.bytes.len());
                    view.offsets().for_each(|o| bytes.extend_from_slice(&literal.bytes[o * size..(o + 1) * size]));
                    out.write_all(&bytes)?;
                }
            }
            at = section.offset + section.bytes;
        }
        Ok(())
    }

    /// The whole blob in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        // Writing to a vector cannot fail.
        let _ = self.write(&mut out);
        out
    }
}
