//! Vendor libraries: opened where they are, asked for calls, and run on a stream.

mod cublaslt;
mod cudnn;
mod load;

use super::driver::{Buffer, Context, Stream};
use crate::Error;
use crate::cpu::f32_to_f16;
use cublaslt::CublasLt;
use cudnn::Cudnn;
use std::sync::{Arc, OnceLock};
use wpk_plan::DType;
use wpk_plan::library::{Call, Library, Linear};

/// A library's version and path, or why it is not there.
pub type Found = (Library, Result<(u64, String), Error>);

/// The libraries of a device, opened when they are first wanted.
pub struct Libraries {
    context: Arc<Context>,
    cublaslt: OnceLock<Result<Arc<CublasLt>, String>>,
    cudnn: OnceLock<Result<Arc<Cudnn>, String>>,
}

/// A call that can be run.
pub struct Prepared {
    call: Call,
    run: Run,
    /// An argument that is read in another type than it is given.
    pub converted: Option<(usize, DType)>,
}

enum Run {
    CublasLt(Arc<CublasLt>),
    Cudnn(Arc<Cudnn>, cudnn::Prepared),
}

impl Libraries {
    pub fn new(context: &Arc<Context>) -> Self {
        Self { context: context.clone(), cublaslt: OnceLock::new(), cudnn: OnceLock::new() }
    }

    fn opened<T>(&self, cell: &OnceLock<Result<Arc<T>, String>>, open: impl FnOnce() -> Result<T, Error>) -> Result<Arc<T>, Error> {
        self.context.enter()?;
        cell.get_or_init(|| open().map(Arc::new).map_err(|e| e.to_string())).clone().map_err(Error::Device)
    }

    fn cublaslt(&self) -> Result<Arc<CublasLt>, Error> {
        self.opened(&self.cublaslt, CublasLt::open)
    }

    fn cudnn(&self) -> Result<Arc<Cudnn>, Error> {
        self.opened(&self.cudnn, Cudnn::open)
    }

    /// Every library.
    pub fn found(&self) -> Vec<Found> {
        vec![
            (Library::CublasLt, self.cublaslt().map(|l| (l.version, l.path.clone()))),
            (Library::Cudnn, self.cudnn().map(|l| (l.version, l.path.clone()))),
        ]
    }

    /// The calls that each library proposes, at most so many, and why one proposes none.
    pub fn candidates(&self, linear: &Linear, most: usize) -> (Vec<Call>, Vec<String>) {
        let products = self.cublaslt().and_then(|l| l.candidates(linear, most));
        let graphs = self.cudnn().and_then(|l| l.candidates(linear, most));
        let (mut calls, mut notes) = (vec![], vec![]);
        for (library, found) in [(Library::CublasLt, products), (Library::Cudnn, graphs)] {
            match found {
                Ok(found) => calls.extend(found),
                Err(reason) => notes.push(format!("{library}: {reason}")),
            }
        }
        (calls, notes)
    }

    /// A call made ready.
    ///
    /// # Errors
    /// Where its library is not there, has another version, or refuses it.
    pub fn prepare(&self, call: &Call) -> Result<Prepared, Error> {
        let same = |version: u64| match version == call.version {
            true => Ok(()),
            false => Err(Error::Device(format!("{} {version} is there, {} was chosen", call.library, call.version))),
        };
        let mut call = call.clone();
        let (run, converted) = match call.library {
            Library::CublasLt => {
                let library = self.cublaslt()?;
                same(library.version)?;
                let converted = CublasLt::converted(&call.linear);
                (Run::CublasLt(library), converted)
            }
            Library::Cudnn => {
                let library = self.cudnn()?;
                same(library.version)?;
                let prepared = library.prepare(&call)?;
                call.workspace = prepared.workspace;
                (Run::Cudnn(library, prepared), None)
            }
        };
        Ok(Prepared { call, run, converted })
    }
}

impl Prepared {
    /// The call, with the workspace that it takes.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Gives a stream the call: pointers of the operands, the result's last.
    ///
    /// # Errors
    /// Where the library fails.
    pub fn run(&self, pointers: &[u64], workspace: u64, stream: &Stream) -> Result<(), Error> {
        match &self.run {
            Run::CublasLt(library) => library.run(&self.call, pointers, workspace, stream.raw()),
            Run::Cudnn(library, prepared) => library.run(prepared, pointers, workspace, stream.raw()),
        }
    }

    /// The argument that is read in another type, made from its bytes.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn convert(&self, context: &Arc<Context>, from: DType, bytes: &[u8]) -> Result<Option<Buffer>, Error> {
        let Some((argument, to)) = self.converted else { return Ok(None) };
        let narrow = match (from, to) {
            (DType::F32, DType::F16) => f32_to_f16,
            (DType::F32, DType::BF16) => wpk_plan::number::bf16,
            _ => return Err(Error::Invalid(format!("argument {argument} of a call is {from} instead of {to}"))),
        };
        let values = bytes.as_chunks::<4>().0.iter().map(|b| narrow(f32::from_le_bytes(*b)));
        Ok(Some(Buffer::of(context, &values.flat_map(u16::to_le_bytes).collect::<Vec<u8>>())?))
    }
}
