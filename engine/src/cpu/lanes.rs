//! Loops over rows in groups of 16 elements: one AVX-512 register, two AVX2, four SSE or NEON.
//!
//! Rows are often short or of odd length (16 channels, 27 classes), where a compiler's own vector loop would do most of
//! the work in its scalar rest. Here the last group is padded instead and goes through the same vector code.
//!
//! *Invariant:* padding never reaches a result.

/// Elements of a group: the lanes of the row rule.
pub(super) const LANES: usize = 16;

/// A row that is shorter than a group, padded.
#[inline(always)]
pub(super) fn padded(row: &[f32], padding: f32) -> [f32; LANES] {
    let mut group = [padding; LANES];
    copy_short(&mut group, row, row.len());
    group
}

/// Copies the first `len` elements, fewer than a group, in a few moves: a call of the library's copy takes longer.
#[inline(always)]
pub(super) fn copy_short(to: &mut [f32], from: &[f32], len: usize) {
    let mut at = 0;
    macro_rules! part {
        ($size:literal) => {
            if len & $size != 0 {
                if let (Some(to), Some(from)) = (to[at..].first_chunk_mut::<$size>(), from[at..].first_chunk()) {
                    *to = *from;
                }
                at += $size;
            }
        };
    }
    part!(8);
    part!(4);
    part!(2);
    if len & 1 != 0 {
        to[at] = from[at];
    }
}

/// `functions!(to, [old] => value)`: each element of `to` from itself, by many operations: group by group, which compilers
/// make one register of. (They unroll a group of few operations and then find no vector in it.)
macro_rules! functions {
    ($to:expr, [$old:ident] => $value:expr) => {{
        let to: &mut [f32] = $to;
        let (groups, rest) = to.as_chunks_mut::<{ $crate::cpu::lanes::LANES }>();
        for to in groups {
            let mut group = *to;
            for to in &mut group {
                let $old = *to;
                *to = $value;
            }
            *to = group;
        }
        if !rest.is_empty() {
            let mut group = $crate::cpu::lanes::padded(rest, 0.0);
            for to in &mut group {
                let $old = *to;
                *to = $value;
            }
            let len = rest.len();
            $crate::cpu::lanes::copy_short(rest, &group, len);
        }
    }};
}

pub(super) use functions;

#[cfg(test)]
mod tests {
    use super::{LANES, padded};

    #[test]
    fn a_row_of_any_length_is_done_to_its_end() {
        for len in 0..50usize {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let mut y = x.clone();
            functions!(&mut y, [old] => old * 8.0);
            assert!(y.iter().zip(&x).all(|(&y, &x)| y == 8.0 * x));
        }
    }

    #[test]
    fn a_short_row_is_padded() {
        for len in 0..LANES {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let group = padded(&x, -1.0);
            assert_eq!(group[..len], x);
            assert!(group[len..].iter().all(|&x| x == -1.0));
        }
    }
}
