//! Convolutions, from one definition: y[n, o, i] is the sum of x[n, c, i·stride + k·dilation - padding] · w[o, c, k].

use super::{Here, Value};
use crate::graph::{Conv2d, Shape};

/// One product of the definition: the elements of x, w and y that it touches.
struct Product {
    x: usize,
    w: usize,
    y: usize,
}

/// Calls with every product whose place in x is inside.
fn each_product(options: Conv2d, [x, w, y]: [&Shape; 3], mut call: impl FnMut(Product)) {
    let [x, w, y] = [x, w, y].map(|shape| [0, 1, 2, 3].map(|axis| i64::from(shape.0[axis])));
    let flat = |shape: [i64; 4], at: [i64; 4]| at.iter().zip(shape).fold(0, |i, (at, n)| i * n + at) as usize;
    let outputs_of_group = w[0] / i64::from(options.groups);
    let source = |axis: usize, out: i64, tap: i64| {
        let [stride, padding, dilation] =
            [options.stride, options.padding, options.dilation].map(|pair| i64::from(pair[axis]));
        Some(out * stride + tap * dilation - padding).filter(|place| (0..x[axis + 2]).contains(place))
    };
    let all: i64 = y.iter().chain(&w[1..]).product();
    for i in 0..all {
        let mut rest = i;
        let mut next = |n: i64| {
            let digit = rest % n;
            rest /= n;
            digit
        };
        let [kw, kh, c, ow, oh, o, n] = [w[3], w[2], w[1], y[3], y[2], y[1], y[0]].map(&mut next);
        if let (Some(row), Some(column)) = (source(0, oh, kh), source(1, ow, kw)) {
            let channel = o / outputs_of_group * w[1] + c;
            call(Product {
                x: flat(x, [n, channel, row, column]),
                w: flat(w, [o, c, kh, kw]),
                y: flat(y, [n, o, oh, ow]),
            });
        }
    }
}

impl Here<'_> {
    fn products(&self, options: Conv2d, shapes: [&Shape; 3], add: impl Fn(Product) -> (usize, f64)) -> Value {
        let mut out = vec![0.0; self.count()];
        each_product(options, shapes, |product| {
            let (at, term) = add(product);
            out[at] += term;
        });
        Value::F(out)
    }

    pub(super) fn conv2d(&self, options: Conv2d) -> Value {
        let (x, w) = (self.floats(0), self.floats(1));
        self.products(options, [self.shape(0), self.shape(1), &self.node.shape], |p| (p.y, x[p.x] * w[p.w]))
    }

    pub(super) fn conv2d_input_grad(&self, options: Conv2d) -> Value {
        let (w, dy) = (self.floats(0), self.floats(1));
        self.products(options, [&self.node.shape, self.shape(0), self.shape(1)], |p| (p.x, w[p.w] * dy[p.y]))
    }

    pub(super) fn conv2d_weight_grad(&self, options: Conv2d) -> Value {
        let (x, dy) = (self.floats(0), self.floats(1));
        self.products(options, [self.shape(0), &self.node.shape, self.shape(1)], |p| (p.w, x[p.x] * dy[p.y]))
    }
}
