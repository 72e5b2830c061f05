//! How a smaller tensor fills the elements of a larger one.

use crate::graph::Shape;

/// Axes of the larger tensor and the smaller one's distance along each, outermost first.
pub(crate) type Walk = Vec<(usize, usize)>;

/// How a smaller tensor fills the elements of a larger one, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Element by element.
    Same,
    /// Each element this many times, and all of these many over and over.
    Repeat(usize, usize),
    /// Anything else.
    Walk(Walk),
}

impl Spread {
    /// Of a tensor that broadcasts from shape to shape: its own first, the filled one's last. An axis that is broadcast
    /// once stays so.
    pub(crate) fn through(shapes: &[Shape]) -> Self {
        let [own, outwards @ ..] = shapes else { return Self::Same };
        let (mut along, mut inner) = (distances(own), own);
        for outer in outwards {
            let missing = outer.0.len() - inner.0.len();
            let mut wider = vec![0; missing];
            wider.extend(along.iter().zip(&inner.0).map(|(&distance, &len)| if len == 1 { 0 } else { distance }));
            (along, inner) = (wider, outer);
        }
        Self::of(&along, inner)
    }

    /// Of a tensor with these distances along the axes of `shape`.
    fn of(distances: &[usize], shape: &Shape) -> Self {
        let axes = shape.0.iter().map(|&len| len as usize).zip(distances.iter().copied());
        let walk = merged(axes);
        let moving: Vec<usize> = (0..walk.len()).filter(|&axis| walk[axis].1 != 0).collect();
        match (&moving[..], walk.len()) {
            (&[0], 1) => Self::Same,
            (&[axis], _) => Self::Repeat(walk[axis + 1..].iter().map(|(len, _)| len).product(), walk[axis].0),
            _ => Self::Walk(walk),
        }
    }
}

/// The same walk along as few axes as can be.
pub(crate) fn merged(axes: impl Iterator<Item = (usize, usize)>) -> Walk {
    let mut walk = Walk::new();
    for (len, distance) in axes.filter(|&(len, _)| len != 1) {
        match walk.last_mut() {
            Some((outer, outside)) if *outside == len * distance => (*outer, *outside) = (*outer * len, distance),
            _ => walk.push((len, distance)),
        }
    }
    walk
}

/// Distances of a row-major tensor's elements along its axes.
pub(crate) fn distances(shape: &Shape) -> Vec<usize> {
    let mut distances = vec![0; shape.0.len()];
    let mut distance = 1;
    for (to, &len) in distances.iter_mut().zip(&shape.0).rev() {
        *to = distance;
        distance *= len as usize;
    }
    distances
}

#[cfg(test)]
mod tests {
    use super::Spread;
    use crate::graph::Shape;

    #[test]
    fn axes_that_move_alike_are_one() {
        let table: [(&[&[u32]], Spread); 7] = [
            (&[&[2, 3], &[2, 3]], Spread::Same),
            (&[&[3], &[2, 3]], Spread::Repeat(1, 3)),
            (&[&[2, 1], &[2, 3]], Spread::Repeat(3, 2)),
            (&[&[3, 1], &[2, 3, 5]], Spread::Repeat(5, 3)),
            (&[&[2, 3, 1], &[2, 3, 4]], Spread::Repeat(4, 6)),
            (&[&[2, 1, 4], &[2, 3, 4]], Spread::Walk(vec![(2, 4), (3, 0), (4, 1)])),
            // Broadcast twice.
            (&[&[4], &[3, 4], &[2, 3, 4]], Spread::Repeat(1, 4)),
        ];
        for (shapes, want) in table {
            let shapes: Vec<Shape> = shapes.iter().map(|shape| Shape(shape.to_vec())).collect();
            assert_eq!(Spread::through(&shapes), want, "{shapes:?}");
        }
    }
}
