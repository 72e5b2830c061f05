//! Every tile, packing and continuation against three plain loops.
#![allow(clippy::unwrap_used)]

use super::super::isa::{Level, available};
use super::super::memory::{Buffer, Shared};
use super::*;
use crate::number::{canon, round12};

/// Canonical numbers of many magnitudes, some of them zero.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..len)
        .map(|_| {
            let exponent = [127, 120, 130, 60, 180][next() as usize % 5];
            let bits = (next() & 0x807f_ffff) | (exponent << 23);
            if next() % 8 == 0 { 0.0 } else { f32::from_bits(bits) }
        })
        .collect()
}

/// The definition: `a(i, p)`, `b(p, j)`.
fn plain(m: usize, n: usize, k: usize, a: impl Fn(usize, usize) -> f32, b: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut c = Vec::new();
    for i in 0..m {
        for j in 0..n {
            let mut total = 0.0f32;
            for first in (0..k).step_by(256) {
                let mut sum = 0.0f32;
                for p in first..k.min(first + 256) {
                    sum += round12(a(i, p)) * round12(b(p, j));
                }
                total += sum;
            }
            c.push(canon(total));
        }
    }
    c
}

fn shared(values: &[f32]) -> Shared {
    Shared::new(values.as_ptr().cast_mut())
}

fn levels() -> impl Iterator<Item = Level> {
    available().into_iter().map(|isa| Level::new(Some(isa)).unwrap())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_shape_and_orientation_has_the_bits_of_the_definition() {
    for level in levels() {
        for (m, n, k) in [
            (1, 1, 1),
            (1, 40, 255),
            (5, 16, 256),
            (13, 33, 257),
            (12, 32, 513),
            (30, 65, 7),
            (7, 550, 300),
            (110, 20, 260),
            (2, 8, 1025),
        ] {
            let (a, b) = (numbers(m * k, 7), numbers(k * n, 11));
            for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
                let want = plain(
                    m,
                    n,
                    k,
                    |i, p| if ta { a[p * m + i] } else { a[i * k + p] },
                    |p, j| if tb { b[j * k + p] } else { b[p * n + j] },
                );
                let room = Buffer::new(scratch(n, k)).unwrap();
                let mut c = vec![f32::NAN; m * n];
                let product = Product {
                    m,
                    n,
                    k,
                    a: Matrix::new(shared(&a), if ta { m } else { k }, ta),
                    b: Right::Matrix(Matrix::new(shared(&b), if tb { k } else { n }, tb)),
                    c: Shared::new(c.as_mut_ptr()),
                    c_row: n,
                    continues: false,
                    ends: true,
                };
                // SAFETY: the operands have these shapes, and the room is as told.
                unsafe { product.compute(level, Shared::new(room.start())) };
                assert_eq!(bits(&c), bits(&want), "{level:?} {m} {n} {k} {ta} {tb}");
            }
        }
    }
}

#[test]
fn parts_of_a_packed_operand_and_continued_totals_have_the_bits_of_the_definition() {
    let (m, n, k) = (14, 96, 700);
    let (a, b) = (numbers(m * k, 3), numbers(k * n, 5));
    for level in levels() {
        let packed_room = Buffer::new(Packed::len(k, n)).unwrap();
        let strip = Buffer::new(STRIP).unwrap();
        let b_matrix = Matrix::new(shared(&b), n, false);
        // SAFETY: b has this shape, and the room is as told.
        let packed = unsafe { Packed::new(level, b_matrix, k, n, Shared::new(packed_room.start())) };
        for (row, depth, column, width) in [(0, 700, 0, 96), (256, 444, 32, 33), (512, 9, 64, 32), (300, 100, 0, 96)] {
            let mut c = vec![f32::NAN; m * width];
            let whole = Product {
                m,
                n: width,
                k: depth,
                a: Matrix::new(shared(&a[row..]), k, false),
                b: Right::Packed(packed.from(row, column)),
                c: Shared::new(c.as_mut_ptr()),
                c_row: width,
                continues: false,
                ends: true,
            };
            // SAFETY: the parts lie in the operands.
            unsafe { whole.compute(level, Shared::new(strip.start())) };
            let want = plain(m, width, depth, |i, p| a[i * k + row + p], |p, j| b[(row + p) * n + column + j]);
            assert_eq!(bits(&c), bits(&want), "{level:?} {row} {depth} {column} {width}");
            if depth > 256 {
                let first = Product { k: 256, ends: false, ..whole };
                let rest = Product {
                    k: depth - 256,
                    a: Matrix::new(shared(&a[row + 256..]), k, false),
                    b: Right::Packed(packed.from(row + 256, column)),
                    continues: true,
                    ..whole
                };
                // SAFETY: as above.
                unsafe {
                    first.compute(level, Shared::new(strip.start()));
                    rest.compute(level, Shared::new(strip.start()));
                }
                assert_eq!(bits(&c), bits(&want), "{level:?}: continued from {row}");
            }
        }
    }
}
