//! Loops over rows in groups of 16 elements: one AVX-512 register, two AVX2, four SSE or NEON.
//!
//! Rows are often short or of odd length (16 channels, 27 classes), where a compiler's own vector loop would do most of
//! the work in its scalar rest. Here the last group is padded instead and goes through the same vector code.
//!
//! *Invariant:* padding never reaches a result.

/// Elements of a group: the lanes of the row rule.
pub(super) const LANES: usize = 16;

/// The group from `first`; lanes past the end of the row hold `padding`.
#[inline(always)]
pub(super) fn load(row: &[f32], first: usize, padding: f32) -> [f32; LANES] {
    match row[first..].first_chunk::<LANES>() {
        Some(group) => *group,
        None => {
            let mut group = [padding; LANES];
            group[..row.len() - first].copy_from_slice(&row[first..]);
            group
        }
    }
}

/// Writes the group from `first`, as far as the row goes.
#[inline(always)]
pub(super) fn store(row: &mut [f32], first: usize, group: &[f32; LANES]) {
    match row[first..].first_chunk_mut::<LANES>() {
        Some(to) => *to = *group,
        None => {
            let len = row.len() - first;
            row[first..].copy_from_slice(&group[..len]);
        }
    }
}

/// `lanes!(to, [x in a, y in b] => value)`: each element of `to` from those of rows as long.
macro_rules! lanes {
    ($to:expr, [$($x:ident in $from:expr),+] => $value:expr) => {{
        let to: &mut [f32] = $to;
        $(let $x: &[f32] = &$from[..to.len()];)+
        let mut first = 0;
        while first < to.len() {
            $(let $x = $crate::cpu::lanes::load($x, first, 0.0);)+
            let mut group = [0.0f32; $crate::cpu::lanes::LANES];
            for lane in 0..$crate::cpu::lanes::LANES {
                $(let $x = $x[lane];)+
                group[lane] = $value;
            }
            $crate::cpu::lanes::store(to, first, &group);
            first += $crate::cpu::lanes::LANES;
        }
    }};
}

/// `update!(to, [old] => value)`: each element of `to` from itself; `update!(to, [old, x in a] => value)`: and from another
/// row's.
macro_rules! update {
    ($to:expr, [$old:ident $(, $x:ident in $from:expr)*] => $value:expr) => {{
        let to: &mut [f32] = $to;
        $(let $x: &[f32] = &$from[..to.len()];)*
        let mut first = 0;
        while first < to.len() {
            let mut group = $crate::cpu::lanes::load(to, first, 0.0);
            $(let $x = $crate::cpu::lanes::load($x, first, 0.0);)*
            for lane in 0..$crate::cpu::lanes::LANES {
                let $old = group[lane];
                $(let $x = $x[lane];)*
                group[lane] = $value;
            }
            $crate::cpu::lanes::store(to, first, &group);
            first += $crate::cpu::lanes::LANES;
        }
    }};
}

pub(super) use {lanes, update};

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
            update!(&mut y, [old] => old * 2.0);
            assert!(y.iter().zip(&x).all(|(&y, &x)| y == 8.0 * x));
        }
    }
}
