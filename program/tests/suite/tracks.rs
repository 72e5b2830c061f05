//! The shipped programs trace, and what does not change what is computed does not change their identity.

use cairn_engine::data::DataSpec;
use cairn_program::{Diagnostic, Limits, TraceContext, Traced, trace};

const NAMES: &str = include_str!("../../../tracks/names/train.py");
const SHAKESPEARE: &str = include_str!("../../../tracks/shakespeare-small/train.py");

pub(crate) fn shakespeare() -> TraceContext {
    TraceContext {
        data: DataSpec::text(256, 1024, 55_770, 55_770),
        budget: 206_000_000_000,
        memory: 1 << 30,
        parameters: 1_000_000,
        literal_bits: 16_384,
    }
}

pub(crate) fn names() -> TraceContext {
    TraceContext {
        data: DataSpec::rows(27, 16, [20_000, 20_000], [2_949, 2_950]),
        budget: 20_000_000_000,
        memory: 1 << 28,
        parameters: 100_000,
        literal_bits: 16_384,
    }
}

fn traced(source: &str, context: &TraceContext) -> Traced {
    let shown = |diagnostic: Box<Diagnostic>| panic!("{}", diagnostic.render(source, "train.py"));
    trace(source, context, &Limits::default()).unwrap_or_else(shown)
}

#[test]
fn the_shipped_programs_trace() {
    for (source, context) in [(NAMES, names()), (SHAKESPEARE, shakespeare())] {
        let traced = traced(source, &context);
        println!(
            "{:?} nodes {} step {} steps {} metered {} peak {} fuel {} bits {}",
            traced.graph,
            traced.nodes,
            traced.metered_step,
            traced.steps,
            traced.metered,
            traced.peak_bytes,
            traced.fuel,
            traced.literal_bits
        );
        assert!(traced.steps >= 16 && traced.metered <= context.budget && traced.peak_bytes <= context.memory);
    }
}
