//! How fast a form of contractions is: large products, one after the other, with nothing to read back.

use std::time::{Duration, Instant};

use super::numbers::{Numbers, Values};
use super::{Choice, SEED, gpu, unsound};
use crate::backend::{BackendError, Feed, Tensor, prepare};
use crate::graph::{Graph, GraphError, NodeId, Shape};

/// Sides of the products, the next ones where a device is too fast for the ones before.
const SIDES: [u32; 2] = [512, 2048];
/// Products, one of the other's result.
const PRODUCTS: u32 = 4;
/// What takes less says little.
const MEASURED: Duration = Duration::from_millis(20);
/// Measurements; the fastest counts.
const TIMES: usize = 2;

fn graph(side: u32) -> Result<(Graph, NodeId), GraphError> {
    let mut g = Graph::default();
    let shape = Shape(vec![side, side]);
    let (mut product, factor) = (g.param(0, shape.clone())?, g.param(1, shape)?);
    for _ in 0..PRODUCTS {
        product = g.contraction((product, false), (factor, false))?;
    }
    let sum = g.sum(product, &[0, 1])?;
    Ok((g, sum))
}

/// Operations a second.
pub(super) fn of(choice: Choice) -> Result<u64, BackendError> {
    let mut speed = 0;
    for side in SIDES {
        let (graph, sum) = graph(side).map_err(unsound)?;
        let mut executor = prepare(&gpu(choice), &graph, &[sum])?;
        let params = [1, 2].map(|stream| {
            let count = side as usize * side as usize;
            Numbers::new(stream, 0).tensor(Values::Plain, count, &[])
        });
        let nothing = Tensor::I32(vec![]);
        let inputs = [&nothing, &nothing];
        let feed = Feed { inputs, params: &params, states: &[], tables: &[], seed: &SEED, step: 0 };
        let mut out = [vec![]];
        executor.run(&feed, &mut out)?;
        let mut least = Duration::MAX;
        for _ in 0..TIMES {
            let started = Instant::now();
            executor.run(&feed, &mut out)?;
            least = least.min(started.elapsed());
        }
        let operations = 2.0 * f64::from(PRODUCTS) * f64::from(side).powi(3);
        speed = (operations / least.as_secs_f64().max(1e-9)) as u64;
        if least >= MEASURED {
            break;
        }
    }
    Ok(speed)
}
