//! Kernels from modules: loaded where they were compiled for the device, else compiled from PTX by its driver.

use super::driver::{Context, cu};
use crate::Error;
use cudarc::driver::sys;
use std::ffi::{CStr, CString, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use wpk_plan::{Bytes, Cubin, DType, Module, TensorMap};

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

/// A loaded module; kernels of one share it.
struct Image {
    raw: sys::CUmodule,
    context: Arc<Context>,
}

// SAFETY: a handle that any thread may use in its context.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.context.enter().and_then(|()| cu!(cuModuleUnload(self.raw)));
    }
}

/// A loaded kernel.
pub struct Function {
    pub(super) raw: sys::CUfunction,
    _image: Arc<Image>,
    pub threads: u32,
    pub blocks: u32,
    /// Bytes of shared memory given at launch, beyond what it declares.
    pub(super) dynamic: u32,
    maps: Vec<TensorMap>,
}

/// What a launch passes.
pub(super) struct Parameters {
    pointers: Vec<u64>,
    maps: Vec<(usize, sys::CUtensorMap)>,
}

impl Parameters {
    /// Where each lies, for as long as these stay.
    pub(super) fn list(&mut self) -> Vec<*mut c_void> {
        let mut list: Vec<*mut c_void> = self.pointers.iter_mut().map(|p| (&raw mut *p).cast()).collect();
        self.maps.iter_mut().for_each(|(i, map)| list[*i] = (&raw mut *map).cast());
        list
    }
}

// SAFETY: handles of a loaded module, valid in its context from any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

/// The option by which drivers compile the kernels of one module in several threads, and its value for as many as there are
/// (`cuda.h` of CUDA 13; those before do not know it).
const SPLIT_COMPILE: (i32, usize) = (34, 0);

/// Compiles a text, with a further option where there is one.
fn compile(text: &CStr, option: Option<(i32, usize)>) -> Result<sys::CUmodule, Error> {
    use sys::CUjit_option_enum::{CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    let mut log = vec![0u8; 8192];
    let mut options = vec![CU_JIT_ERROR_LOG_BUFFER as i32, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as i32];
    let mut values: Vec<*mut c_void> = vec![log.as_mut_ptr().cast(), log.len() as *mut c_void];
    if let Some((name, value)) = option {
        options.push(name);
        values.push(value as *mut c_void);
    }
    let (count, mut raw) = (options.len() as u32, null_mut());
    // The bindings' enumeration ends before the newest options: their numbers are passed as they are.
    let names = options.as_mut_ptr().cast::<sys::CUjit_option_enum>();
    let loaded = cu!(cuModuleLoadDataEx(&raw mut raw, text.as_ptr().cast(), count, names, values.as_mut_ptr()));
    loaded.map_err(|e| match e {
        Error::Device(message) => {
            let log = String::from_utf8_lossy(&log);
            Error::Device(format!("{message}: {}", log.trim_end_matches('\0')))
        }
        other => other,
    })?;
    Ok(raw)
}

impl Function {
    /// Loads what was compiled for the device, or compiles the PTX.
    pub fn load(context: &Arc<Context>, module: &Module) -> Result<Self, Error> {
        context.enter()?;
        let capability = context.capability()?;
        let cubin = module.cubins.iter().find(|c| c.capability == capability).and_then(|c| {
            let mut raw = null_mut();
            // What an older driver does not know is compiled from the text.
            cu!(cuModuleLoadData(&raw mut raw, c.image.0.as_ptr().cast())).ok().map(|()| raw)
        });
        let raw = match cubin {
            Some(raw) => raw,
            None => compile(&terminated(module, &module.text)?, None)?,
        };
        Self::of(&Arc::new(Image { raw, context: context.clone() }), module, &module.entry)
    }

    /// Compiles modules as one, whose kernels the driver then compiles in several threads; modules by themselves it compiles one after
    /// the other, whatever the threads. `None` where the driver does not know how, or refuses the text.
    pub fn load_together(context: &Arc<Context>, modules: &[&Module]) -> Option<Vec<Self>> {
        context.enter().ok()?;
        let (text, entries) = together(modules)?;
        let text = CString::new(text).ok()?;
        let image = Arc::new(Image { raw: compile(&text, Some(SPLIT_COMPILE)).ok()?, context: context.clone() });
        modules.iter().zip(&entries).map(|(m, entry)| Self::of(&image, m, entry).ok()).collect()
    }

    fn of(image: &Arc<Image>, module: &Module, entry: &str) -> Result<Self, Error> {
        let dynamic = if module.shared > Module::STATIC_SHARED { module.shared } else { 0 };
        let maps = module.maps.clone();
        let mut function = Self { raw: null_mut(), _image: image.clone(), threads: module.threads, blocks: module.blocks, dynamic, maps };
        let entry = terminated(module, entry)?;
        cu!(cuModuleGetFunction(&raw mut function.raw, image.raw, entry.as_ptr()))?;
        if dynamic > 0 {
            let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            cu!(cuFuncSetAttribute(function.raw, which, dynamic as i32))?;
        }
        Ok(function)
    }
}

impl Function {
    /// What a launch with these pointers passes: some of them as descriptions.
    pub(super) fn parameters(&self, pointers: &[u64]) -> Result<Parameters, Error> {
        let encode = |map: &TensorMap| {
            let i = map.argument as usize;
            let pointer = *pointers.get(i).ok_or_else(|| Error::Invalid(format!("a kernel without argument {i}")))?;
            encoded(map, pointer).map(|encoded| (i, encoded))
        };
        Ok(Parameters { pointers: pointers.to_vec(), maps: self.maps.iter().map(encode).collect::<Result<_, _>>()? })
    }
}

/// The driver's form of a description.
fn encoded(map: &TensorMap, pointer: u64) -> Result<sys::CUtensorMap, Error> {
    use sys::CUtensorMapDataType_enum as Type;
    let dtype = match map.dtype {
        DType::F16 => Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        DType::BF16 => Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        DType::F32 if map.rounds => Type::CU_TENSOR_MAP_DATA_TYPE_TFLOAT32,
        DType::F32 => Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        other => return Err(Error::Invalid(format!("a map of {other}"))),
    };
    let tile = [(TensorMap::LINE / map.dtype.bytes()) as u32, map.tile];
    let (interleave, swizzle, promotion, fill) = (
        sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
        sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B,
        sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    );
    let from = (pointer + map.offset as u64) as *mut c_void;
    // SAFETY: zero is valid for memory that the driver fills.
    let mut out: sys::CUtensorMap = unsafe { std::mem::zeroed() };
    let Some(images) = &map.images else {
        let groups = (map.lines / TensorMap::LANES) as u64;
        // By lane: two neighbours, four lanes' places, four times two columns, and the groups of all those.
        let (extents, lines, tile) = match map.by_lane {
            false => (vec![map.depth as u64, map.lines as u64], vec![1], tile.to_vec()),
            true => (vec![map.depth as u64, 2, 4, 4, groups], vec![1, 8, 2, 32], vec![tile[0], 2, 4, 4, tile[1] / TensorMap::LANES as u32]),
        };
        let pitches: Vec<u64> = lines.iter().map(|n| n * map.pitch as u64).collect();
        let apart = vec![1; tile.len()];
        cu!(cuTensorMapEncodeTiled(
            &raw mut out,
            dtype,
            tile.len() as u32,
            from,
            extents.as_ptr(),
            pitches.as_ptr(),
            tile.as_ptr(),
            apart.as_ptr(),
            interleave,
            swizzle,
            promotion,
            fill,
        ))?;
        return Ok(out);
    };
    // The driver counts columns before rows.
    let ([rows, columns], [row, image]) = (images.extents, images.pitches);
    let extents = [map.depth, columns, rows, images.count].map(|n| n as u64);
    let pitches = [map.pitch, row, image].map(|n| n as u64);
    let corner = |[row, column]: [i64; 2]| [column as i32, row as i32];
    let (lower, upper) = (corner(images.first), corner(images.last()));
    let apart = [1, images.steps[1] as u32, images.steps[0] as u32, 1];
    cu!(cuTensorMapEncodeIm2col(
        &raw mut out,
        dtype,
        4,
        from,
        extents.as_ptr(),
        pitches.as_ptr(),
        lower.as_ptr(),
        upper.as_ptr(),
        tile[0],
        tile[1],
        apart.as_ptr(),
        interleave,
        swizzle,
        promotion,
        fill,
    ))?;
    Ok(out)
}

/// The texts of modules as one, with the names that their kernels have in it; `None` where they do not begin alike.
fn together(modules: &[&Module]) -> Option<(String, Vec<String>)> {
    const HEAD: &str = ".address_size 64\n";
    // Products of warpgroups need the wider one, which serves all.
    const SHARED: [&str; 2] = [".extern .shared .align 1024 .b8 tile[];\n", ".extern .shared .align 16 .b8 tile[];\n"];
    let head = modules.first().and_then(|m| m.text.find(HEAD)).map(|at| &modules[0].text[..at + HEAD.len()])?;
    let mut text = head.to_owned() + SHARED[0];
    let mut entries = vec![];
    for (i, m) in modules.iter().enumerate() {
        let body = SHARED.iter().fold(m.text.strip_prefix(head)?.to_owned(), |text, line| text.replacen(line, "", 1));
        let (before, behind) = body.split_once(&format!(".entry {}(", m.entry))?;
        let entry = format!("{}_{i}", m.entry);
        text += &format!("{before}.entry {entry}({behind}");
        entries.push(entry);
    }
    Some((text, entries))
}

#[cfg(test)]
mod tests {
    use super::{Module, together};

    fn module(entry: &str, head: &str, body: &str) -> Module {
        let text = format!("{head}.visible .entry {entry}(\n)\n{{\n{body}}}\n");
        Module {
            entry: entry.to_owned(),
            text,
            threads: 32,
            blocks: 1,
            shared: 0,
            maps: vec![],
            parts: None,
            overlaps: false,
            cubins: vec![],
            call: None,
        }
    }

    #[test]
    fn modules_become_one_text_with_names_of_their_own() {
        let head = ".version 8.1\n.target sm_90a\n.address_size 64\n";
        let shared = |align: u32| format!("{head}\n.extern .shared .align {align} .b8 tile[];\n\n");
        let modules = [module("mma", head, "a"), module("mma", &shared(16), "b"), module("mma", &shared(1024), "c")];
        let (text, entries) = together(&modules.iter().collect::<Vec<_>>()).expect("one text");
        assert_eq!(entries, ["mma_0", "mma_1", "mma_2"]);
        let entry = |name: &str, body: &str| format!(".visible .entry {name}(\n)\n{{\n{body}}}\n");
        let entries = [entry("mma_0", "a"), entry("mma_1", "b"), entry("mma_2", "c")];
        let expected = format!("{head}.extern .shared .align 1024 .b8 tile[];\n{}", entries.join("\n\n"));
        assert_eq!(text, expected);
        let other = module("mma", ".version 7.0\n.target sm_80\n.address_size 64\n", "c");
        assert_eq!(together(&[&modules[0], &other]), None);
    }
}
