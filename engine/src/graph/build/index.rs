//! Elements chosen by index along an axis.

use super::super::{DType, Graph, NodeId, Op};
use super::{Built, shape_error};

impl Graph {
    /// PyTorch's `gather`: result[.., i, ..] = x[.., ids[.., i, ..], ..] along `axis`, 0 where an id is out of range.
    ///
    /// x has as many axes as ids; along the other axes it may be longer, and is cut to the length of ids first.
    pub fn gather(&mut self, x: NodeId, ids: NodeId, axis: u8) -> Built {
        let (shape, ids_shape) = (self.shape(x)?.0.clone(), self.want("gather", ids, DType::I32)?);
        self.axis("gather", x, axis)?;
        let others = |(at, _): &(usize, _)| *at != usize::from(axis);
        if shape.len() != ids_shape.len()
            || shape.iter().zip(&ids_shape).enumerate().filter(others).any(|(_, (x, ids))| x < ids)
        {
            return shape_error(format!(
                "gather along axis {axis}: ids {ids_shape:?} must have the axes of x {shape:?}, none but that one longer"
            ));
        }
        let mut x = x;
        for (at, (&len, &wanted)) in shape.iter().zip(&ids_shape).enumerate().filter(others) {
            if wanted < len {
                x = self.slice(x, at as u8, 0, wanted)?;
            }
        }
        let dtype = self.dtype(x)?;
        self.push(Op::Gather(axis), vec![x, ids], ids_shape, dtype)
    }

    /// Zeros, `len` long along `axis`, to which each element of `src` is added where its id says; those out of range are
    /// ignored. The gradient of [`Graph::gather`].
    pub fn scatter_add(&mut self, ids: NodeId, src: NodeId, axis: u8, len: u32) -> Built {
        let (ids_shape, mut shape) = (self.want("scatter_add", ids, DType::I32)?, self.float("scatter_add", src)?);
        self.same_shape("scatter_add: ids and source", &ids_shape, &shape)?;
        self.axis("scatter_add", src, axis)?;
        shape[usize::from(axis)] = len;
        self.push(Op::ScatterAdd { axis, len }, vec![ids, src], shape, DType::F32)
    }

    /// Indices of the `k` largest elements of the last axis, largest first, equal ones by ascending index: [.., k].
    pub fn topk(&mut self, a: NodeId, k: u32) -> Built {
        let mut shape = self.float("topk", a)?;
        match shape.last_mut() {
            Some(last) if (1..=*last).contains(&k) => *last = k,
            Some(last) => return shape_error(format!("topk: {k} of an axis of {last} elements")),
            None => return shape_error("topk: a scalar has no axis".into()),
        }
        self.push(Op::TopK(k), vec![a], shape, DType::I32)
    }
}
