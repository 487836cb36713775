//! Calls that were started and not waited for, and tensors that stay on the device.

use crate::{Element, Error, Model, Shape, Tensor};
use std::marker::PhantomData;

/// A call under way: on a GPU it runs beside the caller, on the CPU it has ended.
pub struct Pending<'m> {
    pub(crate) state: State<'m>,
}

pub(crate) enum State<'m> {
    /// The results.
    Done(Vec<Vec<u8>>),
    #[cfg(feature = "cuda")]
    Started(crate::cuda::Started<'m>),
    #[cfg(not(feature = "cuda"))]
    #[allow(dead_code, reason = "the lifetime belongs to calls on a device")]
    Never(&'m Model),
}

impl Pending<'_> {
    /// Waits, and copies the results to slices of the outputs' lengths.
    ///
    /// # Errors
    /// Where the device failed.
    pub fn finish(self, outputs: &mut [&mut [u8]]) -> Result<(), Error> {
        match self.state {
            State::Done(results) => {
                results.iter().zip(outputs).for_each(|(from, to)| to.copy_from_slice(from));
                Ok(())
            }
            #[cfg(feature = "cuda")]
            State::Started(started) => started.finish(outputs),
            #[cfg(not(feature = "cuda"))]
            State::Never(_) => Ok(()),
        }
    }
}

/// The results of a call that was started; dropping it waits for the call's end.
pub struct Submitted<'m, O> {
    pending: Pending<'m>,
    collect: fn(&'m Model, Pending<'m>) -> Result<O, Error>,
    model: &'m Model,
}

impl<'m, O> Submitted<'m, O> {
    #[doc(hidden)]
    pub fn new(model: &'m Model, pending: Pending<'m>, collect: fn(&'m Model, Pending<'m>) -> Result<O, Error>) -> Self {
        Self { pending, collect, model }
    }

    /// Waits for the results.
    ///
    /// # Errors
    /// Where the device failed.
    pub fn wait(self) -> Result<O, Error> {
        (self.collect)(self.model, self.pending)
    }

    /// Whether the results are there.
    ///
    /// # Errors
    /// Where the device failed.
    pub fn is_done(&mut self) -> Result<bool, Error> {
        match &mut self.pending.state {
            State::Done(_) => Ok(true),
            #[cfg(feature = "cuda")]
            State::Started(started) => started.is_done(),
            #[cfg(not(feature = "cuda"))]
            State::Never(_) => Ok(true),
        }
    }

    /// Makes what a stream of the application is given next wait for the results.
    ///
    /// # Errors
    /// Where the device failed.
    #[cfg(feature = "cuda")]
    pub fn before(&mut self, stream: &crate::UserStream) -> Result<(), Error> {
        match &mut self.pending.state {
            State::Done(_) => Ok(()),
            State::Started(started) => started.before(stream),
        }
    }
}

/// A dense tensor where its model runs: on the GPU, or in the host's memory.
pub struct DeviceTensor<T: Element, S: Shape> {
    pub(crate) memory: DeviceMemory,
    kind: PhantomData<(T, S)>,
}

/// Where a tensor's bytes are.
pub enum DeviceMemory {
    /// In the host's memory.
    Host(Vec<u8>),
    /// On the device.
    #[cfg(feature = "cuda")]
    Cuda(crate::cuda::Buffer),
}

impl DeviceMemory {
    #[cfg(feature = "cuda")]
    fn elsewhere() -> Error {
        Error::Device("a tensor lies on another device than the model".to_owned())
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn on_gpu(&self) -> Result<&crate::cuda::Buffer, Error> {
        match self {
            Self::Cuda(buffer) => Ok(buffer),
            Self::Host(_) => Err(Self::elsewhere()),
        }
    }

    pub(crate) fn on_host(&self) -> Result<&[u8], Error> {
        match self {
            Self::Host(bytes) => Ok(bytes),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => Err(Self::elsewhere()),
        }
    }

    pub(crate) fn on_host_mut(&mut self) -> Result<&mut [u8], Error> {
        match self {
            Self::Host(bytes) => Ok(bytes),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => Err(Self::elsewhere()),
        }
    }
}

impl<T: Element, S: Shape> DeviceTensor<T, S> {
    pub(crate) fn new(memory: DeviceMemory) -> Self {
        Self { memory, kind: PhantomData }
    }

    /// A copy in the host's memory.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn download(&self) -> Result<Tensor<T, S>, Error> {
        let mut tensor = Tensor::zeros();
        match &self.memory {
            DeviceMemory::Host(bytes) => tensor.as_bytes_mut().copy_from_slice(bytes),
            #[cfg(feature = "cuda")]
            DeviceMemory::Cuda(buffer) => tensor.as_bytes_mut().copy_from_slice(&buffer.read()?),
        }
        Ok(tensor)
    }

    /// The device's address of the first element; nothing in the host's memory.
    pub fn address(&self) -> Option<u64> {
        match &self.memory {
            DeviceMemory::Host(_) => None,
            #[cfg(feature = "cuda")]
            DeviceMemory::Cuda(buffer) => Some(buffer.pointer),
        }
    }
}
