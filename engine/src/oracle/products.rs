//! Contractions.

use super::rows::softmax;
use super::{Here, Value, wide};
use crate::graph::{Attention, AttentionInput};

impl Here<'_> {
    pub(super) fn matmul(&self, ta: bool, tb: bool) -> Value {
        let (a, b) = (self.floats(0), self.floats(1));
        let &[.., m, n] = &self.node.shape.0[..] else { unreachable!("a product has two axes") };
        let (m, n) = (m as usize, n as usize);
        let batches = self.count() / (m * n);
        let k = a.len() / (batches * m);
        let mut out = Vec::with_capacity(self.count());
        for (a, b) in a.chunks(m * k).zip(b.chunks(k * n)) {
            let left = |i: usize, l: usize| if ta { a[l * m + i] } else { a[i * k + l] };
            let right = |l: usize, j: usize| if tb { b[j * k + l] } else { b[l * n + j] };
            for i in 0..m {
                out.extend((0..n).map(|j| (0..k).map(|l| left(i, l) * right(l, j)).sum::<f64>()));
            }
        }
        Value::F(out)
    }

    pub(super) fn attention(&self, options: Attention) -> Value {
        let sizes = self.attention_sizes();
        let (q, k, v) = (self.floats(0), self.floats(1), self.floats(2));
        let mut y = vec![0.0; q.len()];
        sizes.each_query(|query, keys| {
            let row = sizes.row(options, &q[query..query + sizes.d], k, keys, query / sizes.d % sizes.t);
            for (j, p, _) in row {
                for c in 0..sizes.d {
                    y[query + c] += p * v[keys + j * sizes.d + c];
                }
            }
        });
        Value::F(y)
    }

    /// From the chain rule through scores and softmax, one query at a time.
    pub(super) fn attention_grad(&self, options: Attention, of: AttentionInput) -> Value {
        let sizes = self.attention_sizes();
        let (d, scale) = (sizes.d, wide(options.scale));
        let [q, k, v, _, dy] = [0, 1, 2, 3, 4].map(|operand| self.floats(operand));
        let mut out = vec![0.0; self.count()];
        sizes.each_query(|query, keys| {
            let dy = &dy[query..query + d];
            let row = sizes.row(options, &q[query..query + d], k, keys, query / d % sizes.t);
            let dp = |j: usize| (0..d).map(|c| dy[c] * v[keys + j * d + c]).sum::<f64>();
            let mean: f64 = row.iter().map(|&(j, p, _)| p * dp(j)).sum();
            for &(j, p, slope) in &row {
                let ds = p * (dp(j) - mean) * slope * scale;
                let key = keys + j * d;
                for c in 0..d {
                    match of {
                        AttentionInput::Q => out[query + c] += ds * k[key + c],
                        AttentionInput::K => out[key + c] += ds * q[query + c],
                        AttentionInput::V => out[key + c] += p * dy[c],
                    }
                }
            }
        });
        Value::F(out)
    }

    fn attention_sizes(&self) -> Sizes {
        let (q, k) = (&self.shape(0).0, &self.shape(1).0);
        let [batch, heads, t, d] = [0, 1, 2, 3].map(|axis| q[axis] as usize);
        Sizes { batch, heads, key_heads: k[1] as usize, t, s: k[2] as usize, d }
    }
}

struct Sizes {
    batch: usize,
    heads: usize,
    key_heads: usize,
    t: usize,
    s: usize,
    d: usize,
}

impl Sizes {
    /// Calls with the first element of each query, and that of the keys of its head.
    fn each_query(&self, mut call: impl FnMut(usize, usize)) {
        for row in 0..self.batch * self.heads * self.t {
            let (batch, head) = (row / self.t / self.heads, row / self.t % self.heads);
            let key_head = head / (self.heads / self.key_heads);
            call(row * self.d, (batch * self.key_heads + key_head) * self.s * self.d);
        }
    }

    /// For each key that query `i` sees: its index, its probability, and the slope of the soft cap at its score.
    fn row(&self, options: Attention, q: &[f64], k: &[f64], keys: usize, i: usize) -> Vec<(usize, f64, f64)> {
        let window = if options.window == 0 { usize::MAX } else { options.window as usize };
        let masked = options.causal || options.window > 0;
        let seen: Vec<usize> = (0..self.s).filter(|&j| !masked || (j <= i && i - j < window)).collect();
        let cap = wide(options.soft_cap);
        let scored = seen.iter().map(|&j| {
            let key = &k[keys + j * self.d..][..self.d];
            let score = q.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * wide(options.scale);
            if options.soft_cap == 0 {
                return (score, 1.0);
            }
            let bent = libm::tanh(score / cap);
            (cap * bent, 1.0 - bent * bent)
        });
        let (scores, slopes): (Vec<f64>, Vec<f64>) = scored.unzip();
        let p = softmax(&scores).0;
        seen.iter().zip(p).zip(slopes).map(|((&j, p), slope)| (j, p, slope)).collect()
    }
}
