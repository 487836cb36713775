//! The driver behind small safe types: a call that fails is an error with the call's name and the driver's words.

use super::function::Function;
use crate::Error;
use cudarc::driver::sys;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

/// The oldest driver whose interface is used: CUDA 12.0.
const OLDEST: i32 = 12000;

pub(super) fn check(call: &str, result: sys::CUresult) -> Result<(), Error> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = std::ptr::null();
    // SAFETY: the driver writes a static string or leaves null.
    let known = unsafe { sys::cuGetErrorString(result, &raw mut text) } == sys::CUresult::CUDA_SUCCESS && !text.is_null();
    // SAFETY: as above.
    let words = if known { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() } else { format!("{result:?}") };
    let message = format!("{call}: {words}");
    Err(match result {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory(message),
        _ if LOST.contains(&result) => Error::DeviceLost(message),
        _ => Error::Device(message),
    })
}

/// Failures that leave the process without its context, by the driver's documentation of each.
const LOST: &[sys::CUresult] = &[
    sys::CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
    sys::CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
    sys::CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
    sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    sys::CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
    sys::CUresult::CUDA_ERROR_ASSERT,
    sys::CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
    sys::CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    sys::CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
    sys::CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    sys::CUresult::CUDA_ERROR_INVALID_PC,
    sys::CUresult::CUDA_ERROR_LAUNCH_FAILED,
];

/// `check` of a driver call by its name.
macro_rules! cu {
    ($name:ident($($arg:expr),* $(,)?)) => {
        // SAFETY: the arguments are valid for this call, by the types around it; the library was found before.
        $crate::cuda::driver::check(stringify!($name), unsafe { sys::$name($($arg),*) })
    };
}
pub(super) use cu;

/// The CUDA version that the driver is for, as 12040 for 12.4.
pub(super) fn version() -> Result<i32, Error> {
    let mut version = 0;
    cu!(cuDriverGetVersion(&raw mut version))?;
    Ok(version)
}

/// The version of the driver, ready for calls, and how many devices it shows.
pub fn open() -> Result<(i32, usize), Error> {
    // SAFETY: only tries to open the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::Device("there is no NVIDIA driver (libcuda)".to_owned()));
    }
    let version = version()?;
    if version < OLDEST {
        return Err(Error::Device(format!("the NVIDIA driver is for CUDA {}.{}; 12.0 is needed", version / 1000, version % 1000 / 10)));
    }
    cu!(cuInit(0))?;
    let mut count = 0;
    cu!(cuDeviceGetCount(&raw mut count))?;
    Ok((version, count as usize))
}

/// A device with its primary context.
pub struct Context {
    device: sys::CUdevice,
    raw: sys::CUcontext,
    ordinal: usize,
}

// SAFETY: contexts may be used from any thread that makes them current, which every method does.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Opens a device by number.
    pub fn new(ordinal: usize) -> Result<Arc<Self>, Error> {
        let (_, count) = open()?;
        if ordinal >= count {
            return Err(Error::Device(format!("there is no CUDA device {ordinal}: the driver shows {count}")));
        }
        let (mut device, mut raw) = (0, null_mut());
        cu!(cuDeviceGet(&raw mut device, ordinal as i32))?;
        cu!(cuDevicePrimaryCtxRetain(&raw mut raw, device))?;
        let context = Self { device, raw, ordinal };
        context.enter()?;
        Ok(Arc::new(context))
    }

    /// Makes it current for this thread.
    pub fn enter(&self) -> Result<(), Error> {
        cu!(cuCtxSetCurrent(self.raw))
    }

    /// The device's number.
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// The device's name.
    pub fn name(&self) -> Result<String, Error> {
        let mut name = [0; 256];
        cu!(cuDeviceGetName(name.as_mut_ptr(), name.len() as i32, self.device))?;
        // SAFETY: the driver ends what it writes with a zero.
        Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
    }

    fn attribute(&self, which: sys::CUdevice_attribute) -> Result<i32, Error> {
        let mut value = 0;
        cu!(cuDeviceGetAttribute(&raw mut value, which, self.device))?;
        Ok(value)
    }

    /// The compute capability, as 90 for 9.0.
    pub fn capability(&self) -> Result<u32, Error> {
        use sys::CUdevice_attribute::{CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR};
        let major = self.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        Ok((10 * major + self.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?) as u32)
    }

    /// Bytes of the second cache.
    pub fn cache(&self) -> Result<usize, Error> {
        Ok(self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize)
    }

    /// Bytes of shared memory that a block may have.
    pub fn shared(&self) -> Result<u32, Error> {
        Ok(self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as u32)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // What fails while the process ends cannot be told to anyone.
        let _ = cu!(cuDevicePrimaryCtxRelease_v2(self.device));
    }
}

/// Device memory.
pub struct Buffer {
    pub pointer: sys::CUdeviceptr,
    pub bytes: usize,
    context: Arc<Context>,
}

/// Waits for what was started on the default stream: fills and copies return before they end, and the streams of sessions do not
/// wait for them.
fn settled() -> Result<(), Error> {
    cu!(cuStreamSynchronize(null_mut()))
}

impl Buffer {
    /// Zeros, at least one byte of them.
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        context.enter()?;
        let mut pointer = 0;
        let size = bytes.max(16);
        cu!(cuMemAlloc_v2(&raw mut pointer, size)).map_err(|e| match e {
            Error::OutOfMemory(message) => Error::OutOfMemory(format!("{bytes} bytes: {message}")),
            other => other,
        })?;
        let buffer = Self { pointer, bytes, context: context.clone() };
        cu!(cuMemsetD8_v2(pointer, 0, size))?;
        settled()?;
        Ok(buffer)
    }

    /// Its bytes.
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        self.context.enter()?;
        let mut bytes = vec![0; self.bytes];
        if self.bytes > 0 {
            cu!(cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), self.pointer, self.bytes))?;
        }
        Ok(bytes)
    }

    /// A copy of host memory.
    pub fn of(context: &Arc<Context>, data: &[u8]) -> Result<Self, Error> {
        let buffer = Self::new(context, data.len())?;
        if !data.is_empty() {
            cu!(cuMemcpyHtoD_v2(buffer.pointer, data.as_ptr().cast(), data.len()))?;
        }
        settled()?;
        Ok(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _ = self.context.enter().and_then(|()| cu!(cuMemFree_v2(self.pointer)));
    }
}

/// Page-locked host memory, which copies need to be asynchronous.
pub struct Pinned {
    pointer: *mut u8,
    bytes: usize,
    context: Arc<Context>,
}

// SAFETY: plain memory, owned.
unsafe impl Send for Pinned {}

impl Pinned {
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        context.enter()?;
        let mut pointer: *mut c_void = null_mut();
        cu!(cuMemHostAlloc(&raw mut pointer, bytes.max(16), 0))?;
        let pointer = pointer.cast::<u8>();
        // SAFETY: just allocated with this size.
        unsafe { pointer.write_bytes(0, bytes.max(16)) };
        Ok(Self { pointer, bytes, context: context.clone() })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: initialized, and owned by `self`; copies into it are waited for before a call ends.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.context.enter().and_then(|()| cu!(cuMemFreeHost(self.pointer.cast())));
    }
}

/// A stream.
pub struct Stream {
    raw: sys::CUstream,
    context: Arc<Context>,
}

// SAFETY: used by one session at a time.
unsafe impl Send for Stream {}

impl Stream {
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        context.enter()?;
        let mut raw = null_mut();
        cu!(cuStreamCreate(&raw mut raw, sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32))?;
        Ok(Self { raw, context: context.clone() })
    }

    /// The driver's own.
    pub fn raw(&self) -> sys::CUstream {
        self.raw
    }

    /// Starts a copy to the device; the source must stay until the stream was waited for.
    pub fn upload(&self, to: &Buffer, from: &Pinned) -> Result<(), Error> {
        if to.bytes == 0 { Ok(()) } else { cu!(cuMemcpyHtoDAsync_v2(to.pointer, from.pointer.cast(), to.bytes, self.raw)) }
    }

    /// Starts a copy from the device; the target must stay until the stream was waited for.
    pub fn download(&self, to: &mut Pinned, from: &Buffer) -> Result<(), Error> {
        if from.bytes == 0 { Ok(()) } else { cu!(cuMemcpyDtoHAsync_v2(to.pointer.cast(), from.pointer, from.bytes, self.raw)) }
    }

    /// Starts a copy within the device.
    pub fn copy(&self, to: &Buffer, from: &Buffer) -> Result<(), Error> {
        let bytes = to.bytes.min(from.bytes);
        if bytes == 0 { Ok(()) } else { cu!(cuMemcpyDtoDAsync_v2(to.pointer, from.pointer, bytes, self.raw)) }
    }

    /// Makes what is started here next wait for what another stream was given so far.
    pub fn wait_for(&self, other: sys::CUstream) -> Result<(), Error> {
        order(other, self.raw)
    }

    /// Makes what another stream is given next wait for what was started here so far.
    pub fn before(&self, other: sys::CUstream) -> Result<(), Error> {
        order(self.raw, other)
    }

    /// Whether everything started here has ended.
    pub fn is_idle(&self) -> Result<bool, Error> {
        // SAFETY: the stream is this one's own.
        match unsafe { sys::cuStreamQuery(self.raw) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            other => check("cuStreamQuery", other).map(|()| true),
        }
    }

    pub fn launch(&self, graph: &super::graph::Graph) -> Result<(), Error> {
        graph.launch(self.raw)
    }

    /// Launches one kernel.
    pub fn run(&self, f: &Function, pointers: &[u64]) -> Result<(), Error> {
        let mut parameters = f.parameters(pointers)?;
        let mut params = parameters.list();
        // SAFETY: zero is valid for every field: no attributes.
        let mut config: sys::CUlaunchConfig = unsafe { std::mem::zeroed() };
        (config.gridDimX, config.gridDimY, config.gridDimZ) = (f.blocks, 1, 1);
        (config.blockDimX, config.blockDimY, config.blockDimZ) = (f.threads, 1, 1);
        (config.sharedMemBytes, config.hStream) = (f.dynamic, self.raw);
        cu!(cuLaunchKernelEx(&raw const config, f.raw, params.as_mut_ptr(), null_mut()))
    }

    pub fn wait(&self) -> Result<(), Error> {
        cu!(cuStreamSynchronize(self.raw))
    }

    /// Nanoseconds that each of some pieces of work takes on the device.
    pub fn time(&self, count: usize, mut work: impl FnMut(usize) -> Result<(), Error>) -> Result<Vec<f64>, Error> {
        let event = || {
            let mut raw = null_mut();
            cu!(cuEventCreate(&raw mut raw, 0)).map(|()| raw)
        };
        let events = (0..=count).map(|_| event()).collect::<Result<Vec<_>, _>>()?;
        cu!(cuEventRecord(events[0], self.raw))?;
        for (i, &event) in events[1..].iter().enumerate() {
            work(i)?;
            cu!(cuEventRecord(event, self.raw))?;
        }
        self.wait()?;
        let mut times = vec![];
        for pair in events.windows(2) {
            let mut ms = 0.0;
            cu!(cuEventElapsedTime(&raw mut ms, pair[0], pair[1]))?;
            times.push(f64::from(ms) * 1e6);
        }
        events.into_iter().try_for_each(|e| cu!(cuEventDestroy_v2(e)))?;
        Ok(times)
    }
}

/// Makes the second stream wait for the first.
fn order(first: sys::CUstream, second: sys::CUstream) -> Result<(), Error> {
    let mut event = null_mut();
    cu!(cuEventCreate(&raw mut event, sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32))?;
    let waits = cu!(cuEventRecord(event, first)).and_then(|()| cu!(cuStreamWaitEvent(second, event, 0)));
    // The driver keeps what is still waited for.
    cu!(cuEventDestroy_v2(event))?;
    waits
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.context.enter().and_then(|()| cu!(cuStreamDestroy_v2(self.raw)));
    }
}
