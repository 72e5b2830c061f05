//! What evaluating a program may cost, apart from what its track allows it.

/// Every bound on tracing. All are exact: a program that needs one unit more is refused, on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Evaluation steps of the whole trace: one per node of the syntax tree evaluated and per item of bulk work.
    pub fuel: u64,
    /// Bytes of values in total, counted by size in the language and never given back.
    pub memory: u64,
    /// Calls under way at once.
    pub calls: u32,
    /// Longest `range`.
    pub range: u64,
    /// Levels of the syntax tree.
    pub depth: u32,
    /// Nodes of the syntax tree.
    pub syntax_nodes: u32,
    /// Evaluation steps of one schedule at one training step.
    pub table_fuel: u64,
    /// Evaluation steps of all schedules at all training steps.
    pub tables_fuel: u64,
    /// Schedules of one program, those that optimisers bring along included.
    pub tables: u32,
    /// Values in the tables of all schedules together.
    pub table_values: u64,
    /// Training phases.
    pub phases: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 2_000_000,
            memory: 64 << 20,
            calls: 50,
            range: 65_536,
            depth: 64,
            syntax_nodes: 20_000,
            table_fuel: 256,
            tables_fuel: 1 << 26,
            tables: 64,
            table_values: 1 << 23,
            phases: 8,
        }
    }
}
