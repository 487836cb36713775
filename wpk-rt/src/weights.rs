//! Where weights come from.

use crate::Error;
use std::path::{Path, PathBuf};

/// The weight blob of a model.
pub enum Weights {
    /// In the executable.
    Static(&'static [u8]),
    /// In memory.
    Owned(Vec<u8>),
    /// Mapped from a file.
    Mapped(memmap2::Mmap),
}

impl Weights {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }

    /// Maps a weights file: beside the executable, in `WPK_WEIGHTS_DIR`, or where the build wrote it.
    ///
    /// # Errors
    /// Where it is in none of them or has another length; the message names every place.
    pub fn find(name: &str, built: &str, bytes: usize) -> Result<Self, Error> {
        let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(|dir| dir.join(name)));
        let chosen = std::env::var_os("WPK_WEIGHTS_DIR").map(|dir| Path::new(&dir).join(name));
        let places: Vec<PathBuf> = chosen.into_iter().chain(beside).chain([PathBuf::from(built)]).collect();
        let Some(path) = places.iter().find(|p| p.is_file()) else {
            return Err(Error::Weights(format!("{name} is in none of {places:?}: copy it beside the executable, or set WPK_WEIGHTS_DIR")));
        };
        let fail = |e: std::io::Error| Error::Weights(format!("cannot map {}: {e}", path.display()));
        let file = std::fs::File::open(path).map_err(fail)?;
        // SAFETY: the mapping is read-only; the name carries the content's hash, so the file is never rewritten.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(fail)?;
        if map.len() != bytes {
            return Err(Error::Weights(format!("{} has {} bytes instead of {bytes}", path.display(), map.len())));
        }
        Ok(Self::Mapped(map))
    }
}
