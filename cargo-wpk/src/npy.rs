//! Reading `.npy` files: version 1 and 2 headers, little-endian, row-major.

use std::path::Path;
use wpk_kernels::Tensor;
use wpk_plan::DType;

/// The elements of a file.
pub fn read(path: &Path) -> Result<Tensor, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&bytes).ok_or_else(|| format!("{} is not an array file that wpk reads", path.display()))
}

fn parse(bytes: &[u8]) -> Option<Tensor> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (header, data) = match rest[0] {
        1 => rest[4..].split_at(usize::from(u16::from_le_bytes([rest[2], rest[3]]))),
        _ => rest[6..].split_at(u32::from_le_bytes(rest[2..6].try_into().ok()?) as usize),
    };
    let header = std::str::from_utf8(header).ok()?;
    if header.contains("'fortran_order': True") {
        return None;
    }
    let kind = header.split("'descr': '").nth(1)?.split('\'').next()?;
    let dtype = match kind {
        "<f4" => DType::F32,
        "<f8" => DType::F64,
        "<f2" => DType::F16,
        "<i8" => DType::I64,
        "<i4" => DType::I32,
        "|b1" => DType::Bool,
        "|u1" => DType::U8,
        "|i1" => DType::I8,
        _ => return None,
    };
    Some(Tensor::from_bytes(dtype, data))
}
