//! Reverse-mode differentiation: gradients as ordinary nodes of the same graph.
