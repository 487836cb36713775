//! Tensor messages as literals.

use super::{Source, external, proto};
use crate::diag::Diag;
use crate::graph::Literal;
use bytes::Bytes;
use wpk_plan::DType;

/// The element type of an ONNX type number.
pub fn dtype(number: i32) -> Result<DType, String> {
    Ok(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        8 => DType::Text,
        14 | 15 => return Err("complex".to_owned()),
        17 => DType::F8E4M3,
        18 => DType::F8E4M3Fnuz,
        19 => DType::F8E5M2,
        20 => DType::F8E5M2Fnuz,
        21 => DType::U4,
        22 => DType::I4,
        23 => DType::F4E2M1,
        24 => DType::F8E8M0,
        25 => DType::U2,
        26 => DType::I2,
        n => return Err(format!("unknown (number {n})")),
    })
}

/// Reads a tensor message; raw data is shared, not copied.
pub fn literal(source: &Source, tensor: &proto::Tensor) -> Result<Literal, Diag> {
    let refuse = |why: String| Diag::new(format!("tensor {:?}: {why}", tensor.name));
    let dtype = dtype(tensor.data_type).map_err(|t| refuse(format!("elements of {t} type are not supported")))?;
    let shape: Vec<usize> = tensor
        .dims
        .iter()
        .map(|&d| usize::try_from(d))
        .collect::<Result<_, _>>()
        .map_err(|_| refuse(format!("extents {:?} are not allowed", tensor.dims)))?;
    let bound = shape.iter().try_fold(dtype.packed_bits().max(8), |n, &d| n.checked_mul(d.max(1))).filter(|&n| n < isize::MAX as usize);
    bound.ok_or_else(|| refuse(format!("extents {:?} are too large", tensor.dims)))?;
    let len: usize = shape.iter().product();
    let bytes = if tensor.data_location == 1 {
        external::read(source, tensor)?
    } else if dtype == DType::Text {
        let strings: Vec<_> = tensor.string_data.iter().map(|s| String::from_utf8_lossy(s)).collect();
        Literal::text(&shape, &strings.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(refuse)?.bytes
    } else if !tensor.raw_data.is_empty() {
        tensor.raw_data.clone()
    } else {
        Bytes::from(typed(tensor, dtype))
    };
    let stored = (len * dtype.packed_bits()).div_ceil(8);
    if bytes.len() != stored {
        return Err(refuse(format!("{dtype}{shape:?} takes {stored} bytes, {} are stored", bytes.len()))
            .help("the file is damaged: export the model again"));
    }
    Ok(Literal::dense(dtype, &shape, unpacked(bytes, dtype, len)))
}

/// One element a byte, where several are in one: the first in the lowest bits.
fn unpacked(bytes: Bytes, dtype: DType, len: usize) -> Bytes {
    let bits = dtype.packed_bits();
    if bits >= 8 {
        return bytes;
    }
    let element = |i: usize| (bytes[i * bits / 8] >> (i * bits % 8)) & ((1 << bits) - 1);
    let value = |i: usize| if dtype.is_float() { element(i) } else { dtype.wrap(i64::from(element(i))) as u8 };
    (0..len).map(value).collect()
}

/// The typed fields as little-endian bytes.
fn typed(t: &proto::Tensor, dtype: DType) -> Vec<u8> {
    let narrow = |n: usize| t.int32_data.iter().flat_map(|x| x.to_le_bytes()[..n].to_vec()).collect();
    match dtype {
        DType::F32 => t.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F64 => t.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::I64 => t.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::U64 => t.uint64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::U32 => t.uint64_data.iter().flat_map(|x| x.to_le_bytes()[..4].to_vec()).collect(),
        other => narrow(other.bytes()),
    }
}
