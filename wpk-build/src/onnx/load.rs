//! Reading a file: memory-mapped, its weights never copied.

use super::proto;
use crate::diag::Diag;
use bytes::Bytes;
use prost::Message;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// A decoded model and the folder its external data lies in.
pub struct Source {
    /// The decoded message.
    pub model: proto::Model,
    /// The folder of the model file; `None` where external data is not allowed.
    pub folder: Option<PathBuf>,
    /// Every file that was read, for change tracking.
    pub files: RefCell<Vec<PathBuf>>,
    pub(crate) maps: RefCell<Vec<(PathBuf, Bytes)>>,
}

/// Reads a model file.
pub fn load(path: &Path) -> Result<Source, Diag> {
    let bytes = map(path)?;
    let mut source = parse(bytes).map_err(|mut d| {
        d.notes.insert(0, ("file", path.display().to_string()));
        d
    })?;
    source.folder = Some(path.parent().map_or_else(PathBuf::new, Path::to_owned));
    source.files.get_mut().push(path.to_owned());
    Ok(source)
}

/// Maps a file into memory.
pub(super) fn map(path: &Path) -> Result<Bytes, Diag> {
    let fail = |e: std::io::Error| Diag::new(format!("cannot read {}: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(Diag::new(format!("{} is not a file", path.display())));
    }
    if meta.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private and read-only; a build that changes its own inputs while it runs is not supported.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(fail)?;
    Ok(Bytes::from_owner(map))
}

/// Decodes a model from memory; external data is refused.
pub fn parse(bytes: Bytes) -> Result<Source, Diag> {
    if bytes.is_empty() {
        return Err(Diag::new("the model file is empty").help("the export or the download was interrupted: write the file again"));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Diag::new("the model file is a Git LFS pointer, not the model").help("run `git lfs pull` to fetch it"));
    }
    let foreign = |what: &str| Err(Diag::new(format!("the file is not an ONNX model but {what}")).help("export the model to ONNX"));
    match &bytes[..bytes.len().min(8)] {
        [b'P', b'K', 3, 4, ..] => return foreign("a zip archive (a PyTorch checkpoint?)"),
        [0x89, b'H', b'D', b'F', ..] => return foreign("an HDF5 file (a Keras model?)"),
        [_, _, _, _, b'T', b'F', b'L', b'3'] => return foreign("a TensorFlow Lite model"),
        [b'G', b'G', b'U', b'F', ..] => return foreign("a GGUF file"),
        [b'{' | b'<', ..] => return foreign("text"),
        _ => {}
    }
    let size = bytes.len();
    let model = proto::Model::decode(bytes).map_err(|e| {
        Diag::new(format!("the file is not a whole ONNX model: {e}"))
            .note("size", format!("{size} bytes"))
            .help("it is truncated, damaged or in another format: export or download it again")
    })?;
    if model.graph.is_none() {
        return Err(Diag::new("the file holds no ONNX graph").help("export a model, not a tensor or a training state"));
    }
    Ok(Source { model, folder: None, files: RefCell::new(vec![]), maps: RefCell::new(vec![]) })
}
