//! A whole training: initialise, step, hash, evaluate.
