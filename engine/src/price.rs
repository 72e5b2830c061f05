//! Metered operations: what a graph costs, as a property of the graph alone.
