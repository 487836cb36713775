//! Aligned memory, and its return to a pool.

use crate::pool::Pool;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

/// Alignment of every allocation: a cache line, and the widest vector.
const ALIGN: usize = 64;

/// Allocations from here on ask the system for huge pages: fewer address translations.
const HUGE: usize = 2 << 20;

/// No page is smaller.
const PAGE: usize = 4096;

/// Has the system bring memory that may lie in a file.
pub(crate) fn bring(bytes: &[u8]) {
    for byte in bytes.iter().step_by(PAGE) {
        std::hint::black_box(*byte);
    }
}

/// Zeroed memory aligned to 64 bytes.
pub(crate) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    /// The mapping that large memory lies in.
    mapped: Option<memmap2::MmapMut>,
}

// SAFETY: the memory is owned and plain bytes.
unsafe impl Send for Memory {}
// SAFETY: shared access only reads.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        if bytes == 0 {
            return Self { start: NonNull::<[u8; ALIGN]>::dangling().cast(), bytes, mapped: None };
        }
        if let Some(memory) = Self::huge(bytes) {
            return memory;
        }
        let layout = Self::layout(bytes);
        // SAFETY: the layout has a size.
        let start = unsafe { alloc_zeroed(layout) };
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), bytes, mapped: None }
    }

    /// Memory in a mapping of its own, at a boundary of huge pages.
    fn huge(bytes: usize) -> Option<Self> {
        if bytes < HUGE {
            return None;
        }
        let mut map = memmap2::MmapMut::map_anon(bytes.checked_add(HUGE)?).ok()?;
        #[cfg(target_os = "linux")]
        // Advice may be refused: the memory serves all the same.
        let _ = map.advise(memmap2::Advice::HugePage);
        let offset = map.as_ptr().align_offset(HUGE);
        let start = NonNull::new(map.as_mut_ptr().wrapping_add(offset))?;
        Some(Self { start, bytes, mapped: Some(map) })
    }

    fn layout(bytes: usize) -> Layout {
        // A size that overflows is an allocation failure like any other.
        Layout::from_size_align(bytes, ALIGN).unwrap_or_else(|_| handle_alloc_error(Layout::new::<u8>()))
    }

    /// Has the system give all of it now, huge pages to several threads at once: it fills them with zeros, and may have to get them itself.
    pub(crate) fn claim(&mut self, pool: &Pool) {
        let memory = &*self;
        pool.run(self.bytes.div_ceil(HUGE), &|page, _| {
            let range = page * HUGE..memory.bytes.min((page + 1) * HUGE);
            // SAFETY: within the memory, which holds zeros and nobody else knows.
            range.step_by(PAGE).for_each(|at| unsafe { memory.start.as_ptr().add(at).write_volatile(0) });
        });
    }

    pub(crate) fn ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.bytes > 0 && self.mapped.is_none() {
            // SAFETY: allocated in `new` with the same layout.
            unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
        }
    }
}

/// Memory that tensors gave back, by size.
#[derive(Default)]
pub(crate) struct Recycler(Mutex<Vec<Memory>>);

impl Recycler {
    /// Memory of that size, used before where possible.
    pub(crate) fn take(&self, bytes: usize) -> Memory {
        let mut free = self.0.lock().unwrap_or_else(|e| e.into_inner());
        match free.iter().position(|m| m.len() == bytes) {
            Some(i) => free.swap_remove(i),
            None => {
                // Room for what is now outstanding, so that giving back does not allocate.
                let room = free.len() + 8;
                if free.capacity() < room {
                    free.reserve(room);
                }
                Memory::new(bytes)
            }
        }
    }
}

/// Memory of a tensor; returned to the model it came from when dropped.
pub(crate) struct Storage {
    memory: Option<Memory>,
    home: Option<Arc<Recycler>>,
}

impl Storage {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { memory: Some(Memory::new(bytes)), home: None }
    }

    pub(crate) fn recycled(bytes: usize, home: &Arc<Recycler>) -> Self {
        Self { memory: Some(home.take(bytes)), home: Some(home.clone()) }
    }

    pub(crate) fn ptr(&self) -> *mut u8 {
        self.memory.as_ref().map_or(std::ptr::null_mut(), Memory::ptr)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let (Some(home), Some(memory)) = (&self.home, self.memory.take()) {
            let mut free = home.0.lock().unwrap_or_else(|e| e.into_inner());
            if free.len() < 64 {
                free.push(memory);
            }
        }
    }
}
