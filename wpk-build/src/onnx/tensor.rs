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
        17..=20 | 24 => return Err("8-bit floating".to_owned()),
        21..=23 | 25 | 26 => return Err("sub-byte".to_owned()),
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
    let bound = shape.iter().try_fold(8usize, |n, &d| n.checked_mul(d.max(1))).filter(|&n| n < isize::MAX as usize);
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
    if bytes.len() != len * dtype.bytes() {
        return Err(refuse(format!("{dtype}{shape:?} takes {} bytes, {} are stored", len * dtype.bytes(), bytes.len()))
            .help("the file is damaged: export the model again"));
    }
    Ok(Literal { dtype, shape, bytes })
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
