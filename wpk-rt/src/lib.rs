//! What an application links: tensors, the plan's executor and CPU kernels. It knows neither ONNX nor the compiler.

mod buffer;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod dynamic;
mod element;
mod error;
mod execute;
mod interop;
mod model;
mod pending;
mod pool;
mod profile;
mod sessions;
mod tensor;
mod text;
mod weights;

pub use cpu::CustomFunction;
pub use dynamic::{Bounded, Dynamic, Found, Given};
pub use element::Element;
pub use error::Error;
pub use model::{Device, Model};
pub use pending::{DeviceMemory, DeviceTensor, Pending, Submitted};
pub use pool::set_threads;
pub use sessions::{Options, WhenBusy};
pub use tensor::{Shape, Shape0, Shape1, Shape2, Shape3, Shape4, Shape5, Shape6, Tensor};
pub use text::Text;
pub use weights::Weights;
pub use wpk_plan as plan;

#[cfg(feature = "cuda")]
pub use cuda::UserStream;

/// Single kernels on a device, for the search.
#[cfg(feature = "cuda")]
pub use cuda::measure;

/// Single products on this processor, for the search.
pub mod trial {
    pub use crate::cpu::identity;
    pub use crate::cpu::trial::{Ready, Trial};

    /// Threads of the pool.
    pub fn threads() -> u32 {
        crate::pool::global().threads() as u32
    }
}

/// Times and intermediate results of single steps, for the command line.
pub mod trace {
    pub use crate::cpu::instruction_set;
    pub use crate::execute::Trace;
    pub use crate::profile::{Profile, Step};
}
