//! Identity, pruning, price and memory of graphs.

use cairn_engine::graph::{Graph, Op, program_id};
use cairn_engine::price;

use crate::programs::{Gpt, Mlp, gpt, mlp};

#[test]
fn a_gpt_and_a_classifier_differentiate() {
    for program in [gpt(&Gpt::TINY), mlp(&Mlp::TINY)] {
        let phase = &program.phases[0];
        println!(
            "{} nodes, price {}, {} bytes, id {:?}",
            phase.graph.len(),
            price::graph(&phase.graph),
            price::program_peak_bytes(&program),
            program_id(&program)
        );
        assert_eq!(phase.params_out.len(), program.params.len());
        assert_eq!(phase.states_out.len(), program.states.len());
    }
}
