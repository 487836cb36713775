//! Kernels from modules: loaded where they were compiled for the device, else compiled from PTX by its driver.

use super::driver::{Context, cu};
use crate::Error;
use cudarc::driver::sys;
use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use wpk_plan::{Bytes, Cubin, Module};

/// A module's text or name as the driver takes it.
fn terminated(module: &Module, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Invalid(format!("module {:?}", module.entry)))
}

/// PTX compiled for a device by its driver.
pub fn link(context: &Context, module: &Module) -> Result<Cubin, Error> {
    context.enter()?;
    let text = terminated(module, &module.text)?;
    let mut state = null_mut();
    cu!(cuLinkCreate_v2(0, null_mut(), null_mut(), &raw mut state))?;
    let kind = sys::CUjitInputType::CU_JIT_INPUT_PTX;
    let bytes = text.as_bytes_with_nul();
    let pointer = bytes.as_ptr().cast_mut().cast();
    let added = cu!(cuLinkAddData_v2(state, kind, pointer, bytes.len(), c"kernel".as_ptr(), 0, null_mut(), null_mut()));
    let (mut image, mut size) = (null_mut(), 0);
    let linked = added.and_then(|()| cu!(cuLinkComplete(state, &raw mut image, &raw mut size))).map(|()| {
        // SAFETY: the driver's own memory of this size, until the state is destroyed.
        unsafe { std::slice::from_raw_parts(image.cast::<u8>(), size) }.to_vec()
    });
    cu!(cuLinkDestroy(state))?;
    Ok(Cubin { capability: context.capability()?, image: Bytes(linked?) })
}

/// A loaded kernel, with the module it is in.
pub struct Function {
    pub(super) raw: sys::CUfunction,
    module: sys::CUmodule,
    context: Arc<Context>,
    pub threads: u32,
    pub blocks: u32,
    /// Bytes of shared memory given at launch, beyond what it declares.
    pub(super) dynamic: u32,
}

// SAFETY: handles of a loaded module, valid in its context from any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    /// A module of compiled PTX, in the current context.
    fn compile(module: &Module) -> Result<sys::CUmodule, Error> {
        let text = terminated(module, &module.text)?;
        let mut log = vec![0u8; 8192];
        let mut options = [sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), log.len() as *mut c_void];
        let mut raw = null_mut();
        let loaded = cu!(cuModuleLoadDataEx(&raw mut raw, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr()));
        loaded.map_err(|e| match e {
            Error::Device(message) => {
                let log = String::from_utf8_lossy(&log);
                Error::Device(format!("{message}: {}", log.trim_end_matches('\0')))
            }
            other => other,
        })?;
        Ok(raw)
    }

    /// Loads what was compiled for the device, or compiles the PTX.
    pub fn load(context: &Arc<Context>, module: &Module) -> Result<Self, Error> {
        context.enter()?;
        let entry = terminated(module, &module.entry)?;
        let capability = context.capability()?;
        let cubin = module.cubins.iter().find(|c| c.capability == capability).and_then(|c| {
            let mut raw = null_mut();
            // What an older driver does not know is compiled from the text.
            cu!(cuModuleLoadData(&raw mut raw, c.image.0.as_ptr().cast())).ok().map(|()| raw)
        });
        let raw = match cubin {
            Some(raw) => raw,
            None => Self::compile(module)?,
        };
        let dynamic = if module.shared > Module::STATIC_SHARED { module.shared } else { 0 };
        let context = context.clone();
        let mut function = Self { raw: null_mut(), module: raw, context, threads: module.threads, blocks: module.blocks, dynamic };
        cu!(cuModuleGetFunction(&raw mut function.raw, raw, entry.as_ptr()))?;
        if dynamic > 0 {
            let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            cu!(cuFuncSetAttribute(function.raw, which, dynamic as i32))?;
        }
        Ok(function)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.context.enter().and_then(|()| cu!(cuModuleUnload(self.module)));
    }
}
