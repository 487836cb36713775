//! Vendor libraries by the names and in the folders that people have them: the system's, CUDA's, and those of Python wheels.

use crate::Error;
use libloading::Library;
use std::path::{Path, PathBuf};

/// Opens the first that is there.
pub fn open(names: &[&str], wheels: &[&str]) -> Result<(Library, String), Error> {
    let mut tried = vec![];
    for folder in std::iter::once(PathBuf::new()).chain(folders(wheels)) {
        for name in names {
            let path = folder.join(name);
            // SAFETY: opening runs the library's initializers; these are the vendor's own.
            match unsafe { Library::new(&path) } {
                Ok(library) => return Ok((library, path.display().to_string())),
                Err(_) => tried.push(path.display().to_string()),
            }
        }
    }
    Err(Error::Device(format!("none of {} is there", names.join(", "))))
}

/// Where libraries are beside the system's folders; `WPK_LIBRARIES` names further ones.
fn folders(wheels: &[&str]) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).into_iter().flat_map(|v| std::env::split_paths(&v).collect::<Vec<_>>());
    let mut all: Vec<PathBuf> = variable("WPK_LIBRARIES").collect();
    for root in variable("CUDA_HOME").chain(variable("CUDA_PATH")).chain([PathBuf::from("/usr/local/cuda")]) {
        all.extend(["lib64", "lib", "bin"].map(|f| root.join(f)));
    }
    for root in variable("VIRTUAL_ENV").chain(variable("CONDA_PREFIX")) {
        let python =
            list(&root.join("lib")).into_iter().filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python")));
        for packages in python.map(|p| p.join("site-packages/nvidia")) {
            all.extend(wheels.iter().map(|w| packages.join(w).join("lib")));
        }
    }
    all.into_iter().filter(|f| f.is_dir()).collect()
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    entries
}

/// A function of a library by its name and type.
macro_rules! symbol {
    ($library:expr, $name:literal) => {
        // SAFETY: the type is the one that the vendor's header gives.
        *unsafe { $library.get(concat!($name, "\0").as_bytes()) }.map_err(|e| Error::Device(format!("{}: {e}", $name)))?
    };
}
pub(super) use symbol;
