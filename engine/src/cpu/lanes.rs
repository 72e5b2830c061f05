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
    group[..row.len()].copy_from_slice(row);
    group
}

/// `lanes!(to, [x in a, y in b] => value)`: each element of `to` from those of one or two rows as long.
macro_rules! lanes {
    ($to:expr, [$x:ident in $a:expr] => $value:expr) => {{
        let to: &mut [f32] = $to;
        let (whole, len) = (to.len() / $crate::cpu::lanes::LANES * $crate::cpu::lanes::LANES, to.len());
        let ((to, rest), (a, a_rest)) = (to.split_at_mut(whole), $a[..len].split_at(whole));
        for (to, &$x) in to.iter_mut().zip(a) {
            *to = $value;
        }
        if !rest.is_empty() {
            let mut group = $crate::cpu::lanes::padded(a_rest, 0.0);
            for to in &mut group {
                let $x = *to;
                *to = $value;
            }
            rest.copy_from_slice(&group[..rest.len()]);
        }
    }};
    ($to:expr, [$x:ident in $a:expr, $y:ident in $b:expr] => $value:expr) => {{
        let to: &mut [f32] = $to;
        let (whole, len) = (to.len() / $crate::cpu::lanes::LANES * $crate::cpu::lanes::LANES, to.len());
        let ((to, rest), (a, a_rest)) = (to.split_at_mut(whole), $a[..len].split_at(whole));
        let (b, b_rest) = $b[..len].split_at(whole);
        for ((to, &$x), &$y) in to.iter_mut().zip(a).zip(b) {
            *to = $value;
        }
        if !rest.is_empty() {
            let mut group = $crate::cpu::lanes::padded(a_rest, 0.0);
            for (to, &$y) in group.iter_mut().zip(&$crate::cpu::lanes::padded(b_rest, 0.0)) {
                let $x = *to;
                *to = $value;
            }
            rest.copy_from_slice(&group[..rest.len()]);
        }
    }};
}

/// `update!(to, [old] => value)`: each element of `to` from itself; with `[old, x in a, y in b]` also from those of one
/// or two rows as long.
macro_rules! update {
    ($to:expr, [$old:ident] => $value:expr) => {{
        let to: &mut [f32] = $to;
        let (to, rest) = to.split_at_mut(to.len() / $crate::cpu::lanes::LANES * $crate::cpu::lanes::LANES);
        for to in to {
            let $old = *to;
            *to = $value;
        }
        if !rest.is_empty() {
            let mut group = $crate::cpu::lanes::padded(rest, 0.0);
            for to in &mut group {
                let $old = *to;
                *to = $value;
            }
            rest.copy_from_slice(&group[..rest.len()]);
        }
    }};
    ($to:expr, [$old:ident, $x:ident in $a:expr] => $value:expr) => {{
        let to: &mut [f32] = $to;
        let (whole, len) = (to.len() / $crate::cpu::lanes::LANES * $crate::cpu::lanes::LANES, to.len());
        let ((to, rest), (a, a_rest)) = (to.split_at_mut(whole), $a[..len].split_at(whole));
        for (to, &$x) in to.iter_mut().zip(a) {
            let $old = *to;
            *to = $value;
        }
        if !rest.is_empty() {
            let mut group = $crate::cpu::lanes::padded(rest, 0.0);
            for (to, &$x) in group.iter_mut().zip(&$crate::cpu::lanes::padded(a_rest, 0.0)) {
                let $old = *to;
                *to = $value;
            }
            rest.copy_from_slice(&group[..rest.len()]);
        }
    }};
    ($to:expr, [$old:ident, $x:ident in $a:expr, $y:ident in $b:expr] => $value:expr) => {{
        let to: &mut [f32] = $to;
        let (a, b) = (&$a[..to.len()], &$b[..to.len()]);
        for ((to, &$x), &$y) in to.iter_mut().zip(a).zip(b) {
            let $old = *to;
            *to = $value;
        }
    }};
}

/// `functions!(to, [old] => value)`: as `update!`, for a value of many operations: group by group, which compilers make
/// one register of. (They unroll a group of few operations and then find no vector in it.)
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
            rest.copy_from_slice(&group[..rest.len()]);
        }
    }};
}

pub(super) use {functions, lanes, update};

#[cfg(test)]
mod tests {
    #[test]
    fn a_row_of_any_length_is_done_to_its_end() {
        for len in 0..50usize {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let mut y = vec![-1.0; len];
            lanes!(&mut y, [a in x, b in x] => a + 2.0 * b);
            assert!(y.iter().zip(&x).all(|(&y, &x)| y == 3.0 * x));
            update!(&mut y, [old, a in x] => old + a);
            functions!(&mut y, [old] => old + 0.0);
            update!(&mut y, [old] => old * 2.0);
            assert!(y.iter().zip(&x).all(|(&y, &x)| y == 8.0 * x));
        }
    }
}
