//! External data: weights in files beside the model. Paths that leave the model's folder are refused.

use super::{Source, load, proto};
use crate::diag::Diag;
use bytes::Bytes;
use std::path::{Component, Path};

/// The bytes of a tensor stored outside the model file.
pub(super) fn read(source: &Source, tensor: &proto::Tensor) -> Result<Bytes, Diag> {
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let refuse = |why: String| Diag::new(format!("tensor {:?}: {why}", tensor.name));
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text.parse::<usize>().map(Some).map_err(|_| refuse(format!("external data has a malformed {key} {text:?}"))),
    };
    let location = entry("location").ok_or_else(|| refuse("external data has no location".to_owned()))?;
    let folder = source.folder.as_ref().ok_or_else(|| refuse("external data needs a model read from a file".to_owned()))?;
    let relative = Path::new(location);
    if location.is_empty() || location.contains('\\') || !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        let help = "external data must be a plain relative path below the model's folder";
        return Err(refuse(format!("external data location {location:?} is not allowed")).help(help));
    }
    let path = folder.join(relative);
    let real = |p: &Path| std::fs::canonicalize(p).map_err(|e| refuse(format!("external data {}: {e}", p.display())));
    let root = if folder.as_os_str().is_empty() { real(Path::new("."))? } else { real(folder)? };
    if !real(&path)?.starts_with(root) {
        return Err(refuse(format!("external data location {location:?} is a link out of the model's folder")));
    }
    let known = source.maps.borrow().iter().find(|m| m.0 == path).map(|m| m.1.clone());
    let bytes = match known {
        Some(bytes) => bytes,
        None => {
            let bytes = load::map(&path)?;
            if bytes.starts_with(b"version https://git-lfs") {
                return Err(refuse(format!("{} is a Git LFS pointer", path.display())).help("run `git lfs pull` to fetch it"));
            }
            source.files.borrow_mut().push(path.clone());
            source.maps.borrow_mut().push((path, bytes.clone()));
            bytes
        }
    };
    let offset = number("offset")?.unwrap_or(0);
    let rest = bytes.len().checked_sub(offset);
    let length = number("length")?.or(rest).unwrap_or(0);
    if rest.is_none_or(|rest| length > rest) {
        return Err(refuse(format!("external data {location:?} holds {} bytes, {length} at {offset} are wanted", bytes.len()))
            .help("the data file is truncated or belongs to another model"));
    }
    Ok(bytes.slice(offset..offset + length))
}
