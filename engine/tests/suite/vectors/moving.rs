//! Constants, indexing and shapes: whatever moves elements.

use cairn_engine::backend::Tensor;
use cairn_engine::graph::{Graph, NodeId, Shape};

use super::{Built, Source, Vector};

/// A vector of an operation on one float tensor of this shape.
fn on(title: &str, shape: &[u32], build: impl FnOnce(&mut Graph, NodeId) -> Built) -> Vector {
    Vector::new(title, vec![Source::new(title).floats(shape)], |g, x| build(g, x[0]))
}

fn constants() -> Vec<Vector> {
    let full = |bits: u32| {
        Vector::new(&format!("Full value={bits:08x} shape=2x2"), vec![], |g, _| g.full(bits, Shape(vec![2, 2])))
    };
    let mut vectors =
        [0, 1, 0x3f80_0000, 0x8000_0000, 0x7fc0_0000, 0x7f80_0000, 0xff7f_ffff, 0x0d7f_ffff].map(full).into();
    let ints = [
        Vector::new("FullInt int=-7 shape=3", vec![], |g, _| g.full_int(-7, Shape(vec![3]))),
        Vector::new("Arange shape=5", vec![], |g, _| g.arange(5)),
    ];
    Vec::extend(&mut vectors, ints);
    vectors
}

fn indexing() -> Vec<Vector> {
    let mut source = Source::new("indexing");
    let mut vectors = vec![];
    let operands = vec![source.floats(&[4, 3]), source.ints(&[2, 7], 4)];
    vectors.push(Vector::new("Embedding", operands, |g, x| g.embedding(x[0], x[1])));
    for (ids, width, rows) in [(&[2, 7][..], 3, 4), (&[600], 2, 3), (&[], 5, 2)] {
        let dy = [ids, &[width]].concat();
        let operands = vec![source.ints(ids, rows), source.floats(&dy)];
        let title = format!("EmbeddingGrad rows={rows}");
        vectors.push(Vector::new(&title, operands, |g, x| g.embedding_grad(x[0], x[1], rows)));
    }
    let operands = vec![source.floats(&[3, 4, 5]), source.ints(&[3, 4], 5)];
    vectors.push(Vector::new("Take", operands, |g, x| g.take(x[0], x[1])));
    let operands = vec![source.ints(&[3, 4], 5), source.floats(&[3, 4])];
    vectors.push(Vector::new("TakeGrad n=5", operands, |g, x| g.take_grad(x[0], x[1], 5)));
    let operands = vec![source.ints(&[3, 2], 9), source.ints(&[1, 2], 9)];
    vectors.push(Vector::new("Concat axis=0", operands, |g, x| g.concat(x, 0)));
    let operands = vec![(Shape(vec![2, 3]), Tensor::I32(vec![1, -2, 3, 4, 5, 6]))];
    vectors.push(Vector::new("Permute perm=1,0", operands.clone(), |g, x| g.permute(x[0], &[1, 0])));
    vectors.push(Vector::new("Slice axis=1 start=1 len=2", operands, |g, x| g.slice(x[0], 1, 1, 2)));
    vectors
}

fn shapes() -> Vec<Vector> {
    let mut source = Source::new("concat");
    let parts = vec![source.floats(&[2, 3, 2]), source.floats(&[2, 1, 2]), source.floats(&[2, 4, 2])];
    vec![
        on("StopGradient", &[3], Graph::stop_gradient),
        on("Reshape shape=3x2x2", &[2, 6], |g, x| g.reshape(x, Shape(vec![3, 2, 2]))),
        on("Permute perm=2,0,1", &[2, 3, 4], |g, x| g.permute(x, &[2, 0, 1])),
        on("Permute perm=0,2,1,3", &[2, 3, 4, 5], |g, x| g.permute(x, &[0, 2, 1, 3])),
        on("BroadcastTo shape=2x3x4", &[3, 1], |g, x| g.broadcast_to(x, Shape(vec![2, 3, 4]))),
        on("BroadcastTo shape=3x2", &[], |g, x| g.broadcast_to(x, Shape(vec![3, 2]))),
        on("Slice axis=1 start=2 len=3", &[2, 6, 3], |g, x| g.slice(x, 1, 2, 3)),
        on("Slice axis=0 start=0 len=1", &[4, 2], |g, x| g.slice(x, 0, 0, 1)),
        on("Pad axis=1 before=2 after=1", &[2, 3, 2], |g, x| g.pad(x, 1, 2, 1)),
        on("Pad axis=0 before=0 after=2", &[3], |g, x| g.pad(x, 0, 0, 2)),
        Vector::new("Concat axis=1", parts, |g, x| g.concat(x, 1)),
    ]
}

/// Elements chosen along an axis.
fn choosing() -> Vec<Vector> {
    let mut vectors = vec![];
    let cases: &[(&[u32], &[u32], u8)] =
        &[(&[5], &[9], 0), (&[3, 4], &[3, 6], 1), (&[3, 4], &[7, 4], 0), (&[2, 3, 2], &[2, 40, 2], 1)];
    for &(shape, ids, axis) in cases {
        let n = shape[usize::from(axis)];
        let mut source = Source::new(&format!("gather {shape:?} {axis}"));
        let operands = vec![source.floats(shape), source.ints(ids, n)];
        vectors.push(Vector::new(&format!("Gather axis={axis}"), operands, |g, x| g.gather(x[0], x[1], axis)));
        let operands = vec![source.ints(ids, n), source.floats(ids)];
        let title = format!("ScatterAdd axis={axis} len={n}");
        vectors.push(Vector::new(&title, operands, |g, x| g.scatter_add(x[0], x[1], axis, n)));
    }
    let mut source = Source::new("gather integers");
    let operands = vec![source.ints(&[4, 3], 99), source.ints(&[4, 5], 3)];
    vectors.push(Vector::new("Gather axis=1", operands, |g, x| g.gather(x[0], x[1], 1)));
    vectors
}

pub(super) fn moving() -> Vec<Vector> {
    [constants(), indexing(), shapes(), choosing()].into_iter().flatten().collect()
}
