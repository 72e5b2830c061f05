//! What a step reads and writes: parameters, optimiser state, and the number of steps done.
//!
//! *Invariant:* the hash sees every bit of every element, and the order of the tensors is that of their names, so
//! that renaming a local variable of the program changes nothing and renaming a tensor changes everything.

use cairn_protocol::{Hash32, Seed};

use crate::graph::{Program, Shape};
use crate::random;

/// Context of a state's hash.
const STATE_CONTEXT: &str = "cairn 1 state";
/// Bits of 2⁶⁰, where the number system ends.
const END_BITS: u32 = (127 + 60) << 23;
/// Elements that are turned into bytes at a time.
const CHUNK: usize = 4096;

/// The state of a run between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Parameters, in the program's order.
    pub params: Vec<Vec<f32>>,
    /// Optimiser state, in the program's order.
    pub optimiser: Vec<Vec<f32>>,
    /// Steps done.
    pub step: u64,
}

impl State {
    /// The state before the first step: parameters drawn from the seed, optimiser state zero.
    pub fn new(program: &Program, seed: &Seed) -> Self {
        Self {
            params: program.params.iter().map(|param| random::init(param, seed)).collect(),
            optimiser: program.states.iter().map(|state| vec![0.0; state.shape.elements() as usize]).collect(),
            step: 0,
        }
    }

    /// Name of the first of loss, parameters and states that has an element at the end of the number system.
    pub(crate) fn out_of_range(&self, program: &Program, loss: f32) -> Option<String> {
        if at_end(&[loss]) {
            return Some("loss".into());
        }
        let names = program.params.iter().map(|param| &param.name).chain(program.states.iter().map(|s| &s.name));
        let tensors = self.params.iter().chain(&self.optimiser);
        names.zip(tensors).find(|(_, tensor)| at_end(tensor)).map(|(name, _)| name.clone())
    }

    /// Hash of the step, and of name, shape and bits of every tensor.
    pub fn hash(&self, program: &Program) -> Hash32 {
        let params = program.params.iter().zip(&self.params).map(|(p, bits)| (p.name.as_str(), 0, &p.shape, bits));
        let states = program.states.iter().zip(&self.optimiser).map(|(s, bits)| (s.name.as_str(), 1, &s.shape, bits));
        let mut tensors: Vec<(&str, u8, &Shape, &Vec<f32>)> = params.chain(states).collect();
        tensors.sort_by_key(|(name, kind, ..)| (*name, *kind));
        let mut hasher = blake3::Hasher::new_derive_key(STATE_CONTEXT);
        hasher.update(&self.step.to_be_bytes()).update(&(tensors.len() as u32).to_be_bytes());
        for (name, kind, shape, elements) in tensors {
            hasher.update(&[kind]).update(&(name.len() as u32).to_be_bytes()).update(name.as_bytes());
            hasher.update(&(shape.0.len() as u32).to_be_bytes());
            shape.0.iter().for_each(|axis| {
                hasher.update(&axis.to_be_bytes());
            });
            hash_elements(&mut hasher, elements);
        }
        Hash32(*hasher.finalize().as_bytes())
    }
}

fn hash_elements(hasher: &mut blake3::Hasher, elements: &[f32]) {
    let mut bytes = Vec::with_capacity(4 * CHUNK.min(elements.len()));
    for chunk in elements.chunks(CHUNK) {
        bytes.clear();
        chunk.iter().for_each(|element| bytes.extend_from_slice(&element.to_bits().to_le_bytes()));
        hasher.update(&bytes);
    }
}

/// Whether an element has the largest magnitude that there is (or, were there one, is no number of the system).
///
/// Adding what 2⁶⁰ lacks to 2³¹ sets the top bit of exactly those; a fold of `or` is a loop without branches.
pub(super) fn at_end(elements: &[f32]) -> bool {
    const LACK: u32 = (1 << 31) - END_BITS;
    elements.iter().fold(0, |any, x| any | ((x.to_bits() & 0x7fff_ffff) + LACK)) >> 31 == 1
}

#[cfg(test)]
mod tests {
    use super::at_end;

    #[test]
    fn only_the_end_of_the_number_system_counts_as_out_of_range() {
        let end = 2.0f32.powi(60);
        for inside in [0.0, 1.0, -1.0, f32::from_bits(end.to_bits() - 1), -f32::from_bits(end.to_bits() - 1)] {
            assert!(!at_end(&[0.0, inside]), "{inside}");
        }
        for outside in [end, -end, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert!(at_end(&[0.0, 1.0, outside, 2.0]), "{outside}");
        }
        assert!(!at_end(&[]));
    }
}
