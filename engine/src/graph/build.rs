//! The checked constructors: the only way nodes come into a [`Graph`].
//!
//! Each method computes the result's shape and element type, or says what does not fit.

use thiserror::Error;

use super::{Binary, DType, ELEMENTS_MAX, Graph, NODES_MAX, Node, NodeId, Op, RANK_MAX, Random, Shape, Unary};

/// Why a node cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GraphError {
    /// Shapes, axes or lengths do not fit.
    #[error("{0}")]
    Shape(String),
    /// Wrong element type.
    #[error("{0}")]
    DType(String),
    /// A named limit of the graph is exceeded.
    #[error("{0}")]
    Limit(String),
    /// There is no gradient of this.
    #[error("{0}")]
    Gradient(String),
}

type Built = Result<NodeId, GraphError>;

fn shape_error<T>(message: String) -> Result<T, GraphError> {
    Err(GraphError::Shape(message))
}

impl Shape {
    /// Number of elements; 1 for a scalar. Saturates, so that a length that overflows is over every limit.
    pub fn elements(&self) -> u64 {
        self.0.iter().fold(1u64, |product, &n| product.saturating_mul(u64::from(n)))
    }

    /// NumPy broadcasting of two shapes, `None` where they do not fit.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.0.len().max(other.0.len());
        let at = |shape: &Shape, i: usize| {
            let missing = rank - shape.0.len();
            if i < missing { 1 } else { shape.0[i - missing] }
        };
        (0..rank)
            .map(|i| match (at(self, i), at(other, i)) {
                (a, b) if a == b => Some(a),
                (1, b) => Some(b),
                (a, 1) => Some(a),
                _ => None,
            })
            .collect::<Option<Vec<u32>>>()
            .map(Shape)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Graph {
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn node(&self, id: NodeId) -> Result<&Node, GraphError> {
        self.nodes.get(id as usize).ok_or_else(|| GraphError::Limit(format!("there is no node {id} in this graph")))
    }

    /// Shape of a node.
    ///
    /// # Errors
    /// The id is not of this graph.
    pub fn shape(&self, id: NodeId) -> Result<&Shape, GraphError> {
        self.node(id).map(|node| &node.shape)
    }

    /// Element type of a node.
    ///
    /// # Errors
    /// The id is not of this graph.
    pub fn dtype(&self, id: NodeId) -> Result<DType, GraphError> {
        self.node(id).map(|node| node.dtype)
    }

    fn push(&mut self, op: Op, inputs: Vec<NodeId>, shape: Vec<u32>, dtype: DType) -> Built {
        let shape = Shape(shape);
        if shape.0.len() > RANK_MAX {
            return Err(GraphError::Limit(format!("{shape} has more than {RANK_MAX} axes")));
        }
        if shape.0.contains(&0) {
            return shape_error(format!("{shape} has an axis of length 0"));
        }
        if shape.elements() > ELEMENTS_MAX {
            return Err(GraphError::Limit(format!("{shape} has more than {ELEMENTS_MAX} elements")));
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(GraphError::Limit(format!("the graph has more than {NODES_MAX} nodes")));
        }
        let id = self.nodes.len() as NodeId;
        self.nodes.push(Node { op, inputs, shape, dtype });
        self.lines.push(self.line);
        Ok(id)
    }

    fn want(&self, what: &str, id: NodeId, dtype: DType) -> Result<Vec<u32>, GraphError> {
        let node = self.node(id)?;
        if node.dtype != dtype {
            return Err(GraphError::DType(format!("{what} takes {dtype:?}, not {:?}", node.dtype)));
        }
        Ok(node.shape.0.clone())
    }

    fn float(&self, what: &str, id: NodeId) -> Result<Vec<u32>, GraphError> {
        self.want(what, id, DType::F32)
    }

    fn axis(&self, what: &str, id: NodeId, axis: u8) -> Result<u32, GraphError> {
        let shape = self.shape(id)?;
        shape.0.get(usize::from(axis)).copied().ok_or_else(|| {
            GraphError::Shape(format!("{what}: axis {axis} is out of range for {shape} of rank {}", shape.0.len()))
        })
    }

    fn same_shape(&self, what: &str, a: &[u32], b: &[u32]) -> Result<(), GraphError> {
        if a == b { Ok(()) } else { shape_error(format!("{what}: shapes {a:?} and {b:?} must be equal")) }
    }

    /// A batch of examples: index 0 is the model's input, 1 the target.
    pub fn input(&mut self, index: u8, shape: Shape, dtype: DType) -> Built {
        if index > 1 {
            return Err(GraphError::Limit(format!("input {index}: there are two, 0 and 1")));
        }
        self.push(Op::Input(index), vec![], shape.0, dtype)
    }

    /// Parameter `i` of the program.
    pub fn param(&mut self, i: u32, shape: Shape) -> Built {
        self.push(Op::Param(i), vec![], shape.0, DType::F32)
    }

    /// Optimiser state `i` of the program.
    pub fn state(&mut self, i: u32, shape: Shape) -> Built {
        self.push(Op::State(i), vec![], shape.0, DType::F32)
    }

    /// Scalar of table `i` at the current step.
    pub fn table(&mut self, i: u32) -> Built {
        self.push(Op::Table(i), vec![], vec![], DType::F32)
    }

    /// Every element is the float with these bits.
    pub fn full(&mut self, bits: u32, shape: Shape) -> Built {
        self.push(Op::Full(bits), vec![], shape.0, DType::F32)
    }

    /// Every element is this integer.
    pub fn full_int(&mut self, value: i32, shape: Shape) -> Built {
        self.push(Op::FullInt(value), vec![], shape.0, DType::I32)
    }

    /// 0, 1, … n-1.
    pub fn arange(&mut self, n: u32) -> Built {
        self.push(Op::Arange, vec![], vec![n], DType::I32)
    }

    /// Fresh random numbers each step.
    pub fn random(&mut self, kind: Random, stream: &str, shape: Shape) -> Built {
        self.push(Op::Random(kind, stream.to_owned()), vec![], shape.0, DType::F32)
    }

    /// Elementwise with one operand.
    pub fn unary(&mut self, op: Unary, a: NodeId) -> Built {
        let (from, to) = match op {
            Unary::ToFloat => (DType::I32, DType::F32),
            Unary::ToInt => (DType::F32, DType::I32),
            _ => (DType::F32, DType::F32),
        };
        let shape = self.want(&format!("{op:?}"), a, from)?;
        self.push(Op::Unary(op), vec![a], shape, to)
    }

    /// Elementwise with two operands of one element type, broadcasting.
    pub fn binary(&mut self, op: Binary, a: NodeId, b: NodeId) -> Built {
        let name = format!("{op:?}");
        let from = match op {
            Binary::Lt | Binary::Le | Binary::Eq => self.dtype(a)?,
            _ => DType::F32,
        };
        let (left, right) = (self.want(&name, a, from)?, self.want(&name, b, from)?);
        let shape = broadcast(&name, &[left, right])?;
        self.push(Op::Binary(op), vec![a, b], shape, DType::F32)
    }

    /// `a` where `c` is not 0, else `b`, which are of one element type; broadcasting.
    pub fn where_(&mut self, c: NodeId, a: NodeId, b: NodeId) -> Built {
        let dtype = self.dtype(a)?;
        let shapes = [self.float("where", c)?, self.want("where", a, dtype)?, self.want("where", b, dtype)?];
        let shape = broadcast("where", &shapes)?;
        self.push(Op::Where, vec![c, a, b], shape, dtype)
    }

    /// Identity that passes no gradient.
    pub fn stop_gradient(&mut self, a: NodeId) -> Built {
        let shape = self.float("stop_gradient", a)?;
        self.push(Op::StopGradient, vec![a], shape, DType::F32)
    }

    fn reduced(&self, what: &str, a: NodeId, axes: &[u8]) -> Result<(Vec<u8>, Vec<u32>), GraphError> {
        let mut shape = self.float(what, a)?;
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if sorted.is_empty() || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return shape_error(format!("{what}: axes {axes:?} must name at least one axis, none of them twice"));
        }
        for &axis in &sorted {
            self.axis(what, a, axis)?;
            shape[usize::from(axis)] = 1;
        }
        Ok((sorted, shape))
    }

    /// Sum over axes, each kept with length 1.
    pub fn sum(&mut self, a: NodeId, axes: &[u8]) -> Built {
        let (axes, shape) = self.reduced("sum", a, axes)?;
        self.push(Op::Sum(axes), vec![a], shape, DType::F32)
    }

    /// Maximum over axes, each kept with length 1.
    pub fn max(&mut self, a: NodeId, axes: &[u8]) -> Built {
        let (axes, shape) = self.reduced("max", a, axes)?;
        self.push(Op::Max(axes), vec![a], shape, DType::F32)
    }

    /// Index of the first maximum of the last axis, which is kept with length 1.
    pub fn argmax(&mut self, a: NodeId) -> Built {
        let mut shape = self.float("argmax", a)?;
        match shape.last_mut() {
            Some(last) => *last = 1,
            None => return shape_error("argmax: a scalar has no axis".into()),
        }
        self.push(Op::ArgMax, vec![a], shape, DType::I32)
    }

    /// Sums along an axis of all elements up to each one; from each one to the last if `reverse`.
    pub fn cumsum(&mut self, a: NodeId, axis: u8, reverse: bool) -> Built {
        let shape = self.float("cumsum", a)?;
        self.axis("cumsum", a, axis)?;
        self.push(Op::CumSum { axis, reverse }, vec![a], shape, DType::F32)
    }

    /// Same elements, new shape. A reshape to the same shape is the node itself.
    pub fn reshape(&mut self, a: NodeId, shape: Shape) -> Built {
        let node = self.node(a)?;
        if node.shape == shape {
            return Ok(a);
        }
        let dtype = node.dtype;
        if node.shape.elements() != shape.elements() {
            return shape_error(format!("reshape: {} has not as many elements as {shape}", node.shape));
        }
        self.push(Op::Reshape, vec![a], shape.0, dtype)
    }

    /// Axes reordered: output axis i is input axis `perm[i]`.
    pub fn permute(&mut self, a: NodeId, perm: &[u8]) -> Built {
        let node = self.node(a)?;
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().map(usize::from).eq(0..node.shape.0.len()) {
            return shape_error(format!("permute: {perm:?} does not name each axis of {} once", node.shape));
        }
        let (shape, dtype) = (perm.iter().map(|&axis| node.shape.0[usize::from(axis)]).collect(), node.dtype);
        self.push(Op::Permute(perm.to_vec()), vec![a], shape, dtype)
    }

    /// NumPy broadcasting to a shape. To the same shape, the node itself.
    pub fn broadcast_to(&mut self, a: NodeId, shape: Shape) -> Built {
        let node = self.node(a)?;
        if node.shape == shape {
            return Ok(a);
        }
        let dtype = node.dtype;
        if node.shape.broadcast(&shape).as_ref() != Some(&shape) {
            return shape_error(format!("broadcast_to: {} does not broadcast to {shape}", node.shape));
        }
        self.push(Op::BroadcastTo, vec![a], shape.0, dtype)
    }

    /// `len` elements of one axis from `start`.
    pub fn slice(&mut self, a: NodeId, axis: u8, start: u32, len: u32) -> Built {
        let n = self.axis("slice", a, axis)?;
        if u64::from(start) + u64::from(len) > u64::from(n) {
            return shape_error(format!("slice: {start}..{start}+{len} is outside axis {axis} of length {n}"));
        }
        let node = self.node(a)?;
        let (mut shape, dtype) = (node.shape.0.clone(), node.dtype);
        shape[usize::from(axis)] = len;
        self.push(Op::Slice { axis, start }, vec![a], shape, dtype)
    }

    /// Zeros around one axis.
    pub fn pad(&mut self, a: NodeId, axis: u8, before: u32, after: u32) -> Built {
        let n = self.axis("pad", a, axis)?;
        let mut shape = self.float("pad", a)?;
        shape[usize::from(axis)] = n
            .checked_add(before)
            .and_then(|n| n.checked_add(after))
            .ok_or_else(|| GraphError::Limit(format!("pad: {before} + {n} + {after} is too long")))?;
        self.push(Op::Pad { axis, before, after }, vec![a], shape, DType::F32)
    }

    /// Inputs joined along an axis; their other axes are equal.
    pub fn concat(&mut self, inputs: &[NodeId], axis: u8) -> Built {
        let Some(&first) = inputs.first() else {
            return shape_error("concat: nothing to join".into());
        };
        self.axis("concat", first, axis)?;
        let (at, dtype) = (usize::from(axis), self.dtype(first)?);
        let mut shape = self.want("concat", first, dtype)?;
        for &input in &inputs[1..] {
            let mut other = self.want("concat", input, dtype)?;
            let n = self.axis("concat", input, axis)?;
            other[at] = shape[at];
            self.same_shape("concat, but for the joined axis", &shape, &other)?;
            shape[at] = shape[at].checked_add(n).ok_or_else(|| GraphError::Limit("concat: too long".into()))?;
        }
        self.push(Op::Concat(axis), inputs.to_vec(), shape, dtype)
    }
}

fn broadcast(what: &str, shapes: &[Vec<u32>]) -> Result<Vec<u32>, GraphError> {
    let mut all = Shape::default();
    for shape in shapes {
        let shape = Shape(shape.clone());
        all = all
            .broadcast(&shape)
            .ok_or_else(|| GraphError::Shape(format!("{what}: shapes {all} and {shape} do not broadcast")))?;
    }
    Ok(all.0)
}

mod conv;
mod index;
mod linear;
mod rows;

#[cfg(test)]
mod tests;
