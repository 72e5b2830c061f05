//! Aligned memory, where a tensor lives, and the pointers that the steps of a plan work on.
//!
//! *Invariant:* all bounds are settled when the plan is made: a [`Place`] together with its length lies inside its
//! region, and two regions never overlap.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::backend::BackendError;

/// Alignment of every buffer and of every tensor in the arena, in bytes: a cache line and an AVX-512 register.
pub(super) const ALIGNMENT: usize = 64;
/// Elements in [`ALIGNMENT`] bytes.
pub(super) const LINE: usize = ALIGNMENT / size_of::<f32>();

/// Zeroed memory that never moves.
#[derive(Debug)]
pub(super) struct Buffer {
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: a buffer owns its memory, as a `Vec<f32>` does.
unsafe impl Send for Buffer {}
// SAFETY: shared references only give the address out; whoever uses it answers for the accesses.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros.
    pub(super) fn new(len: usize) -> Result<Self, BackendError> {
        if len == 0 {
            return Ok(Self { start: NonNull::dangling(), len });
        }
        let layout = Self::layout(len)?;
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start.cast::<f32>()) {
            Some(start) => Ok(Self { start, len }),
            None => Err(BackendError::Resources(format!("no memory for {} bytes", layout.size()))),
        }
    }

    fn layout(len: usize) -> Result<Layout, BackendError> {
        len.checked_mul(size_of::<f32>())
            .and_then(|bytes| Layout::from_size_align(bytes, ALIGNMENT).ok())
            .ok_or_else(|| BackendError::Resources(format!("{len} elements are more than memory can hold")))
    }

    /// Address of the first element.
    pub(super) fn start(&self) -> *mut f32 {
        self.start.as_ptr()
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let (1.., Ok(layout)) = (self.len, Self::layout(self.len)) {
            // SAFETY: `new` got this memory with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

/// Where a tensor starts: an index into the plan's regions, and elements from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Region: see [`Region`].
    pub(super) region: u32,
    /// First element.
    pub(super) offset: usize,
    /// How far the next slice of the batch starts behind this one; 0 for what all slices share.
    pub(super) advance: usize,
}

impl Place {
    /// A place that is the same for all slices.
    pub(super) fn new(region: u32, offset: usize) -> Self {
        Self { region, offset, advance: 0 }
    }
}

/// Numbers of the regions: fixed ones, then one for each parameter, state and output.
pub(super) struct Region;

impl Region {
    /// Activations.
    pub(super) const ARENA: u32 = 0;
    /// Values that no step changes.
    pub(super) const CONSTANTS: u32 = 1;
    /// The feed's tables.
    pub(super) const TABLES: u32 = 2;
    /// `Input(0)`; `Input(1)` follows.
    pub(super) const INPUTS: u32 = 3;
    /// First of the parameters, which the states and then the outputs follow.
    pub(super) const PARAMS: u32 = 5;
}

/// An address that tasks on several threads share; each touches only elements that are its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared(*mut f32);

// SAFETY: the address alone is harmless; `read`, `write` and `at` state what their callers owe.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Wraps an address.
    pub(super) fn new(start: *mut f32) -> Self {
        Self(start)
    }

    /// Address of an element.
    ///
    /// # Safety
    /// The element lies inside the tensor or one behind its end.
    #[inline(always)]
    pub(super) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: owed by the caller.
        unsafe { self.0.add(offset) }
    }

    /// Elements `offset..offset + len`.
    ///
    /// # Safety
    /// They lie inside the tensor and nobody writes them while the slice lives.
    #[inline(always)]
    pub(super) unsafe fn read<'a>(self, offset: usize, len: usize) -> &'a [f32] {
        // SAFETY: owed by the caller.
        unsafe { std::slice::from_raw_parts(self.0.add(offset), len) }
    }

    /// Elements `offset..offset + len` of an integer tensor.
    ///
    /// # Safety
    /// As for `read`, and the tensor holds integers.
    #[inline(always)]
    pub(super) unsafe fn read_int<'a>(self, offset: usize, len: usize) -> &'a [i32] {
        // SAFETY: owed by the caller; both types have the same size and alignment, and every bit pattern is valid.
        unsafe { std::slice::from_raw_parts(self.0.cast::<i32>().add(offset), len) }
    }

    /// Elements `offset..offset + len`, to be written.
    ///
    /// # Safety
    /// They lie inside the tensor and nobody else touches them while the slice lives.
    #[inline(always)]
    pub(super) unsafe fn write<'a>(self, offset: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: owed by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(offset), len) }
    }

    /// Elements `offset..offset + len` of an integer tensor, to be written.
    ///
    /// # Safety
    /// As for `write`, and the tensor holds integers.
    #[inline(always)]
    pub(super) unsafe fn write_int<'a>(self, offset: usize, len: usize) -> &'a mut [i32] {
        // SAFETY: owed by the caller; see `read_int`.
        unsafe { std::slice::from_raw_parts_mut(self.0.cast::<i32>().add(offset), len) }
    }
}
