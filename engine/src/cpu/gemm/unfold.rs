//! Packs a right operand that is unfolded from a smaller tensor: all its rows read the same places, each from an offset
//! of its own. So a convolution is a product without its unfolded input ever standing in memory as a whole.

use super::super::isa::{Kernel, Level};
use super::super::memory::Shared;
use super::kernel::{self, Tile};
use super::{CHUNK, COLUMNS, Packed, TILE_COLUMNS};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::backend::Isa;

/// Places that follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Run {
    /// First place.
    pub(in super::super) from: usize,
    /// Number of places.
    pub(in super::super) len: usize,
}

/// Room for an unfolded operand of at most [`CHUNK`] rows and this many columns, in elements.
pub(in super::super) fn unfolded(rows: usize, columns: usize) -> usize {
    rows.min(CHUNK) * columns.next_multiple_of(TILE_COLUMNS) + TILE_COLUMNS
}

/// Elements that may be read behind a place: rows are copied in whole registers.
pub(in super::super) const OVERREAD: usize = TILE_COLUMNS;

impl Packed {
    /// Packs the operand whose element (k, j) stands at `offsets[k]` and the j-th of the places of `runs`; its elements
    /// are rounded to 12 significant bits already.
    ///
    /// # Safety
    /// There are at most [`CHUNK`] offsets and [`COLUMNS`] places; every element, and [`OVERREAD`] behind it, may be
    /// read, and as many elements of `to` written as [`unfolded`] tells, for nobody else.
    pub(in super::super) unsafe fn unfold(
        level: Level,
        from: Shared,
        offsets: &[usize],
        runs: &[Run],
        to: Shared,
    ) -> Self {
        let columns = runs.iter().map(|run| run.len).sum();
        debug_assert!(offsets.len() <= CHUNK && columns <= COLUMNS);
        let unfold = Unfold { from, offsets, runs, to };
        match level.isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => level.run((unfold, kernel::Avx512)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => level.run((unfold, kernel::Avx2)),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => level.run((unfold, kernel::Neon)),
            _ => level.run((unfold, kernel::Portable)),
        }
        Self { start: to, rows: offsets.len(), columns, row: 0, column: 0 }
    }
}

struct Unfold<'a> {
    from: Shared,
    offsets: &'a [usize],
    runs: &'a [Run],
    to: Shared,
}

impl<T: Tile> Kernel for (Unfold<'_>, T) {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Unfold { from, offsets, runs, to } = self.0;
        let (mut rest, mut panel) = (Rest { runs, done: 0 }, 0);
        loop {
            let mut copies = [(0, 0); TILE_COLUMNS];
            let (count, filled) = rest.copies::<T>(&mut copies);
            if filled == 0 {
                return;
            }
            // SAFETY: `Packed::unfold` was promised the places and the room. A copy that writes too much writes to
            // where the next copy, row or panel writes later, or behind the end.
            unsafe {
                let to = Shared::new(to.at(panel * offsets.len() * T::COLUMNS));
                if filled < T::COLUMNS {
                    to.write(0, offsets.len() * T::COLUMNS).fill(0.0);
                }
                for (k, &offset) in offsets.iter().enumerate() {
                    for &(place, column) in &copies[..count] {
                        copy::<T>(from.at(offset + place), to.at(k * T::COLUMNS + column));
                    }
                }
            }
            panel += 1;
        }
    }
}

/// What is copied at once: half a row of a panel.
#[inline(always)]
unsafe fn copy<T: Tile>(from: *const f32, to: *mut f32) {
    // SAFETY: owed by the caller.
    unsafe { to.copy_from_nonoverlapping(from, T::COLUMNS / 2) };
}

/// The places that are not packed yet.
struct Rest<'a> {
    runs: &'a [Run],
    /// Places of the first run that are.
    done: usize,
}

impl Rest<'_> {
    /// The copies that fill the next panel, as (place, column): how many, and how many columns they fill.
    #[inline(always)]
    fn copies<T: Tile>(&mut self, copies: &mut [(usize, usize); TILE_COLUMNS]) -> (usize, usize) {
        let (mut count, mut filled) = (0, 0);
        while filled < T::COLUMNS
            && let Some(run) = self.runs.first()
        {
            let len = (run.len - self.done).min(T::COLUMNS / 2).min(T::COLUMNS - filled);
            copies[count] = (run.from + self.done, filled);
            (count, filled, self.done) = (count + 1, filled + len, self.done + len);
            if self.done == run.len {
                (self.runs, self.done) = (&self.runs[1..], 0);
            }
        }
        (count, filled)
    }
}
