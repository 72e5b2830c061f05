//! Executor
