//! Does the model look where it must not? Exactness makes the question sharp: an output may depend on its own row up to
//! its own position and on nothing else, so changing anything else must not change a single bit.
//!
//! Every window of the validation part is cut at a position that the auditor's key draws; what follows the cut is
//! replaced by text of another window, and the rows of a batch change places. Outputs up to the cut must stay as they
//! are. Who trains a model cannot know the key. `docs/spec/run.md` states the draws.
//!
//! *Invariant:* the same key gives the same cuts, donors and shift everywhere.

use cairn_protocol::{Hash32, Seed, hash};

use super::RunError;
use super::evaluate::Trained;
use crate::backend::{Options, Tensor, prepare};
use crate::data::Split;

/// An output that changed although nothing that it may depend on did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The window, counted over the validation part.
    pub window: u64,
    /// The last position that was left as it was.
    pub cut: u32,
    /// The first position, at most `cut`, whose output changed.
    pub position: u32,
}

/// What the key draws for one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Draw {
    cut: u32,
    donor: u64,
    shift: u64,
}

fn draw(key: &Hash32, seed: &Seed, window: u64, windows: u64, context: u32) -> Draw {
    let digest = hash("audit", &[&key.0, &seed.0, &window.to_be_bytes()]);
    let number = |from: usize| digest.iter().skip(from).take(8).fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    // A cut at the last position would replace nothing.
    let cut = (number(0) % u64::from(context.saturating_sub(1).max(1))) as u32;
    let donor = (window + 1 + number(8) % windows.saturating_sub(1).max(1)) % windows.max(1);
    Draw { cut, donor, shift: number(16) }
}

/// Looks for a leak in the outputs of a trained state, with the cuts that `key` draws.
///
/// # Errors
/// The outputs do not fit the data, or the backend cannot run the graph.
pub fn audit(trained: &Trained<'_>, options: &Options, key: &Hash32) -> Result<Option<Leak>, RunError> {
    let Trained { program, data, context, seed, .. } = *trained;
    let mut executor = prepare(options, &program.eval, &[program.output])?;
    let (rows, positions) = (program.eval_batch as usize, context as usize);
    let classes = data.spec().classes as usize;
    let windows = data.evaluation_rows(Split::Validation, context);
    let mut before = [vec![0.0; rows * positions * classes]];
    let mut after = before.clone();
    let mut scratch = vec![0; positions];
    for (batch, [input, target]) in (0u64..).zip(data.windows(Split::Validation, context, program.eval_batch)?) {
        let Tensor::I32(tokens) = &input else {
            return Err(RunError::Program("an audit needs rows of tokens".into()));
        };
        let first = batch * u64::from(program.eval_batch);
        let held = (windows - first).min(rows as u64) as usize;
        let draws: Vec<Draw> =
            (first..first + held as u64).map(|window| draw(key, seed, window, windows, context)).collect();
        let shift = draws.first().map_or(0, |draw| (draw.shift % rows as u64) as usize);
        let mut changed = vec![0; rows * positions];
        for (row, draw) in draws.iter().enumerate() {
            let mut donated = vec![0; positions];
            data.evaluation_row(Split::Validation, draw.donor, &mut donated, &mut scratch);
            let kept = draw.cut as usize + 1;
            let place = ((row + shift) % rows) * positions;
            let from = &tokens[row * positions..];
            changed[place..place + kept].copy_from_slice(&from[..kept]);
            changed[place + kept..place + positions].copy_from_slice(&donated[kept..]);
        }
        trained.forward(executor.as_mut(), [&input, &target], &mut before)?;
        trained.forward(executor.as_mut(), [&Tensor::I32(changed), &target], &mut after)?;
        for (row, draw) in draws.iter().enumerate() {
            let (was, is) = (row * positions * classes, ((row + shift) % rows) * positions * classes);
            let kept = (draw.cut as usize + 1) * classes;
            let pairs = before[0][was..was + kept].iter().zip(&after[0][is..is + kept]);
            if let Some(at) = pairs.map(|(a, b)| a.to_bits() == b.to_bits()).position(|same| !same) {
                let position = (at / classes) as u32;
                return Ok(Some(Leak { window: first + row as u64, cut: draw.cut, position }));
            }
        }
    }
    Ok(None)
}
