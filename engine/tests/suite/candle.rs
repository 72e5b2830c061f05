//! An implementation that shares nothing with ours, candle, gives the same values and gradients where it has the operation.

use candle_core::{D, DType, Device, Result, Tensor, Var};

use cairn_engine::backend::Tensor as Ids;
use cairn_engine::graph::{Node, NodeId, Op};
use cairn_engine::oracle::evaluate_at;

use crate::cases::{Built, CASES, Case};
use crate::closeness::reference;

/// A case of ours by name, and the same in candle.
type Twin = (&'static str, fn(&[Tensor], &Tensor) -> Result<Tensor>);

fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

const EPS: f64 = 1e-5f32 as f64;

fn rms_norm(x: &Tensor) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean + EPS)?.sqrt()?)
}

fn layer_norm(x: &Tensor) -> Result<Tensor> {
    rms_norm(&x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?)
}

/// Loss at each position, 0 where the target is -1.
fn cross_entropy(x: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let targets = targets.reshape(&x.dims()[..x.dims().len() - 1])?;
    let counted = targets.ge(0i64)?.to_dtype(DType::F64)?;
    let taken = log_softmax(x)?.gather(&targets.maximum(0i64)?.unsqueeze(D::Minus1)?, D::Minus1)?;
    taken.squeeze(D::Minus1)?.neg()? * counted
}

/// Causal attention of q [B,H,T,D] on k, v [B,Hk,T,D].
fn attention(x: &[Tensor], scale: f32) -> Result<Tensor> {
    let (_, heads, t, _) = x[0].dims4()?;
    let repeated = |x: &Tensor| {
        let (batch, key_heads, t, d) = x.dims4()?;
        let each = heads / key_heads;
        x.unsqueeze(2)?.broadcast_as((batch, key_heads, each, t, d))?.contiguous()?.reshape((batch, heads, t, d))
    };
    let (k, v) = (repeated(&x[1])?, repeated(&x[2])?);
    let scores = (x[0].matmul(&k.t()?.contiguous()?)? * f64::from(scale))?;
    let mask: Vec<f64> = (0..t * t).map(|i| if i % t > i / t { f64::NEG_INFINITY } else { 0.0 }).collect();
    let mask = Tensor::from_vec(mask, (t, t), &Device::Cpu)?;
    softmax(&scores.broadcast_add(&mask)?)?.matmul(&v)
}

const TWINS: &[Twin] = &[
    ("Exp", |x, _| x[0].exp()),
    ("Log", |x, _| x[0].log()),
    ("Sqrt", |x, _| x[0].sqrt()),
    ("Recip", |x, _| x[0].recip()),
    ("Tanh", |x, _| x[0].tanh()),
    ("Erf", |x, _| x[0].erf()),
    ("Sin", |x, _| x[0].sin()),
    ("Cos", |x, _| x[0].cos()),
    ("Relu", |x, _| x[0].relu()),
    ("Abs", |x, _| x[0].abs()),
    ("gelu", |x, _| x[0].gelu_erf()),
    ("silu", |x, _| x[0].silu()),
    ("Add[4, 2, 3][3]", |x, _| x[0].broadcast_add(&x[1])),
    ("Sub[3][2, 3]", |x, _| x[0].broadcast_sub(&x[1])),
    ("Mul[2, 1][1, 3]", |x, _| x[0].broadcast_mul(&x[1])),
    ("Div[2, 3][2, 1]", |x, _| x[0].broadcast_div(&x[1])),
    ("Max[4, 5][4, 5]", |x, _| x[0].maximum(&x[1])),
    ("Min[4, 5][4, 5]", |x, _| x[0].minimum(&x[1])),
    ("sum of the outer axes", |x, _| x[0].sum_keepdim((0, 2))),
    ("max of the last axis", |x, _| x[0].max_keepdim(1)),
    ("max of the first axis", |x, _| x[0].max_keepdim(0)),
    ("x @ w", |x, _| x[0].broadcast_matmul(&x[1])),
    ("contraction[3, 300]false[300, 2]false", |x, _| x[0].matmul(&x[1])),
    ("contraction[2, 4, 3]true[2, 5, 4]true", |x, _| x[0].t()?.matmul(&x[1].t()?)),
    ("RowOp::Softmax", |x, _| softmax(&x[0])),
    ("RowOp::LogSoftmax", |x, _| log_softmax(&x[0])),
    ("RowOp::RmsNorm(EPS)", |x, _| rms_norm(&x[0])),
    ("RowOp::LayerNorm(EPS)", |x, _| layer_norm(&x[0])),
    ("cross entropy", |x, ids| cross_entropy(&x[0], ids)),
    ("tied weights", |x, ids| x[0].embedding(ids)?.matmul(&x[0].t()?)),
    ("causal attention", |x, _| attention(x, 0.5)),
    ("grouped heads", |x, _| attention(x, 0.7)),
    ("conv2d", |x, _| x[0].conv2d(&x[1], 0, 1, 1, 1)),
    ("conv2d, padded", |x, _| x[0].conv2d(&x[1], 1, 1, 1, 1)),
    ("conv2d, strided", |x, _| x[0].conv2d(&x[1], 1, 2, 1, 1)),
    ("conv2d, dilated", |x, _| x[0].conv2d(&x[1], 2, 1, 2, 1)),
    ("cumsum", |x, _| x[0].cumsum(1)),
    ("permute", |x, _| x[0].permute((2, 0, 1))),
    ("slice", |x, _| x[0].narrow(1, 1, 3)),
    ("pad", |x, _| x[0].pad_with_zeros(0, 1, 2)),
    ("concat", |x, _| Tensor::cat(&[&x[0], &x[1], &x[2], &x[0]], 1)),
];

/// Candle's value of a case, and its gradients of the projection by `weights`.
fn theirs(case: &Case, values: &[Vec<f64>], weights: &[f64], twin: Twin) -> Result<Vec<Vec<f64>>> {
    let vars: Vec<Var> = case
        .operands
        .iter()
        .zip(values)
        .map(|((shape, _), values)| {
            let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
            Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu)?)
        })
        .collect::<Result<_>>()?;
    let ids: Vec<i64> = case.ids.iter().map(|&id| i64::from(id)).collect();
    let ids = Tensor::from_vec(ids, case.ids.len(), &Device::Cpu)?;
    let operands: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let value = twin.1(&operands, &ids)?;
    let weights = Tensor::from_slice(weights, value.shape(), &Device::Cpu)?;
    let found = (&value * weights)?.sum_all()?.backward()?;
    let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f64>();
    let gradients = vars.iter().map(|var| flat(found.get(var).unwrap_or_else(|| panic!("{} is not used", twin.0))));
    [flat(&value)].into_iter().chain(gradients).collect()
}

/// A twin's case, our value and gradients by `run`, and candle's.
fn both(twin: Twin, run: fn(&Built, &[NodeId]) -> Vec<Vec<f64>>) -> (Built, Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let case = CASES.iter().find(|case| case.name == twin.0).unwrap_or_else(|| panic!("no case {}", twin.0));
    let mut built = case.build();
    let (_, gradients) = built.differentiate();
    let wanted = [&[built.output][..], &gradients].concat();
    let ours = run(&built, &wanted);
    let point = built.point();
    let theirs = theirs(case, &point.params, &point.states[0], twin).unwrap_or_else(|e| panic!("{}: {e}", twin.0));
    (built, ours, theirs)
}

fn compare(twin: Twin, ours: &[Vec<f64>], theirs: &[Vec<f64>], allowed: f64) {
    for (k, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours.len(), theirs.len(), "{}", twin.0);
        let scale = theirs.iter().fold(1e-3, |most: f64, x| most.max(x.abs()));
        for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            assert!((ours - theirs).abs() < allowed * scale, "{} {k}[{i}]: {ours}, candle {theirs}", twin.0);
        }
    }
}

#[test]
fn candle_agrees_with_the_oracle() {
    for &twin in TWINS {
        let (_, ours, theirs) = both(twin, |built, wanted| evaluate_at(&built.graph, &built.point(), wanted));
        // Constants of ours are rounded to f32; one of candle's gelu gradient has six digits.
        compare(twin, &ours, &theirs, 1e-6);
    }
}

#[test]
fn candle_agrees_with_the_reference() {
    for &twin in TWINS {
        let (built, ours, theirs) = both(twin, |built, wanted| {
            let inputs = [built.ids.clone(), Ids::I32(vec![])];
            let states = std::slice::from_ref(&built.weights);
            let found = reference(&built.graph, &inputs, &built.values, states, &[], wanted);
            found.iter().map(|values| values.iter().map(|&x| f64::from(x)).collect()).collect()
        });
        let contraction = |node: &Node| matches!(node.op, Op::MatMul { .. } | Op::Attention(_) | Op::Conv2d(_));
        let longest = built.graph.nodes().iter().filter(|node| contraction(node)).flat_map(|node| {
            let operands = node.inputs.iter().map(|&id| built.graph.shape(id).unwrap());
            operands.flat_map(|shape| shape.0.clone())
        });
        let allowed = longest.max().map_or(1e-5, |k| 2f64.powi(-10) * f64::from(k).sqrt());
        compare(twin, &ours, &theirs, allowed);
    }
}
