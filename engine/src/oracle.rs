//! The graph in f64 without any rounding rule: what gradients and the exact backends are compared with in tests.
