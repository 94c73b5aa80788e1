//! The plugin's allocator.
//!
//! An instance serves one webhook and is thrown away with all its memory, so the many small pieces a mapping allocates
//! are cut from a fixed area one after the other and never given back one by one. The area is part of the memory a plugin
//! starts with: memory that grows costs the gateway two system calls for each webhook. What does not fit any more, or is
//! large enough to be worth freeing, goes to the standard library's allocator.

#![expect(unsafe_code, reason = "an allocator hands out memory")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, UnsafeCell},
    mem::MaybeUninit,
    ptr,
};

const AREA_BYTES: usize = 384 << 10;
const PIECE_BYTES_MAX: usize = 32 << 10;

// Stable compilers do not tell of this feature; they have no threads for a plugin's target either.
#[cfg(target_feature = "atomics")]
compile_error!("this allocator is for one thread; with threads, leave the feature `allocator` out");

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static PIECES: Pieces = Pieces::new();

struct Pieces {
    area: UnsafeCell<[MaybeUninit<u8>; AREA_BYTES]>,
    used: Cell<usize>,
}

// SAFETY: a component of this contract has one thread.
#[cfg(target_arch = "wasm32")]
unsafe impl Sync for Pieces {}

impl Pieces {
    const fn new() -> Self {
        Self {
            area: UnsafeCell::new([MaybeUninit::uninit(); AREA_BYTES]),
            used: Cell::new(0),
        }
    }

    fn start(&self) -> *mut u8 {
        self.area.get().cast()
    }

    /// Where a piece begins in the area; `None` for what the system allocated.
    fn offset(&self, piece: *mut u8) -> Option<usize> {
        let offset = piece.addr().checked_sub(self.start().addr())?;
        (offset < AREA_BYTES).then_some(offset)
    }

    /// Lengthens or shortens the piece that was cut last.
    fn resize_last(&self, piece: *mut u8, old_bytes: usize, new_bytes: usize) -> bool {
        let Some(offset) = self.offset(piece) else { return false };
        let bytes_max = PIECE_BYTES_MAX.min(AREA_BYTES - offset);
        let fits = offset + old_bytes == self.used.get() && new_bytes <= bytes_max;
        if fits {
            self.used.set(offset + new_bytes);
        }
        fits
    }
}

// SAFETY: pieces lie in the area, are aligned, and overlap with none that is in use: `used` only falls when the last
// piece is given back or shortened.
unsafe impl GlobalAlloc for Pieces {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let cut = self.start().addr() + self.used.get();
        let padding = cut.wrapping_neg() & (layout.align() - 1);
        let offset = self.used.get() + padding;
        if layout.size() <= PIECE_BYTES_MAX && offset + layout.size() <= AREA_BYTES {
            self.used.set(offset + layout.size());
            // SAFETY: the piece ends within the area.
            unsafe { self.start().add(offset) }
        } else {
            // SAFETY: the caller's own promise.
            unsafe { System.alloc(layout) }
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if self.offset(piece).is_some() {
            self.resize_last(piece, layout.size(), 0);
        } else {
            // SAFETY: what is not in the area came from the system.
            unsafe { System.dealloc(piece, layout) }
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        if self.offset(piece).is_none() {
            // SAFETY: what is not in the area came from the system.
            return unsafe { System.realloc(piece, layout, new_bytes) };
        }
        if self.resize_last(piece, layout.size(), new_bytes) || new_bytes <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises that the size is valid for the alignment.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(new_bytes, layout.align())) };
        if !moved.is_null() {
            // SAFETY: two pieces that do not overlap, each of at least so many bytes.
            unsafe { ptr::copy_nonoverlapping(piece, moved, layout.size()) };
            // SAFETY: the caller gives up what it had.
            unsafe { self.dealloc(piece, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests;
