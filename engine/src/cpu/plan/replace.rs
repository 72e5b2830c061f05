//! What may be written over: parameters and states by their new values, operands of elementwise nodes by results.
//!
//! *Invariant:* when a result is written over another value, nobody reads that value afterwards.

use crate::graph::{NodeId, Op};

use super::layout::Layout;
use crate::plan::analysis::{Analysis, is_elementwise};
use crate::plan::slices::{Slices, Stage};

/// For each output of a training step (the loss, then every parameter and state in order), whether it may be written over
/// the parameter or state that it replaces. Empty for a graph that is no such step.
pub(super) fn in_place(layout: &Layout<'_, '_>, units: &[Vec<NodeId>]) -> Vec<bool> {
    let Layout { analysis, slices, leaves: (params, states), ref copies, .. } = *layout;
    let (params, states) = (params as u32, states as u32);
    if analysis.wanted.len() as u32 != 1 + params + states {
        return vec![];
    }
    let leaves = (0..params).map(Op::Param).chain((0..states).map(Op::State));
    let nodes = || (0..).zip(analysis.graph.nodes());
    let named: Vec<Vec<NodeId>> =
        leaves.map(|leaf| nodes().filter(|(_, node)| node.op == leaf).map(|(id, _)| id).collect()).collect();
    let old = named.iter().map(|ids| ids.first().map(|&id| analysis.len(id)));
    if !old.eq(analysis.wanted[1..].iter().map(|&id| Some(analysis.len(id)))) {
        return vec![];
    }
    let mut unit_of = vec![usize::MAX; analysis.graph.len()];
    for (at, unit) in units.iter().enumerate() {
        unit.iter().for_each(|&id| unit_of[id as usize] = at);
    }
    let may = |(index, old): (usize, &Vec<NodeId>)| {
        let copied =
            copies.iter().any(|&(to, from)| to == index || analysis.root(from).is_some_and(|root| old.contains(&root)));
        let Some(new) = analysis.root(analysis.wanted[index]).filter(|_| !copied) else { return false };
        let at = unit_of[new as usize];
        is_elementwise(&analysis.node(new).op)
            && runs_once(slices, new)
            && old.iter().all(|&old| {
                analysis.users[old as usize].iter().all(|&user| match unit_of[user as usize] {
                    unit if unit == at => reads_along(analysis, user, old),
                    unit => unit < at,
                })
            })
    };
    [false].into_iter().chain((1..).zip(&named).map(may)).collect()
}

/// Whether a node runs outside of the loop over slices.
fn runs_once(slices: &Slices, id: NodeId) -> bool {
    slices.count == 1 || slices.stage(id) == Stage::After
}

/// Whether an elementwise node reads a tensor element by element.
fn reads_along(analysis: &Analysis<'_>, user: NodeId, read: NodeId) -> bool {
    let operands = analysis.operands(user).filter(|&it| analysis.root(it) == Some(read));
    operands
        .into_iter()
        .all(|operand| analysis.len(operand) == analysis.len(user) && analysis.len(operand) == analysis.len(read))
}

/// Whether a value of an elementwise unit may stand where an operand stood that lives until this unit.
pub(super) fn in_arena(layout: &Layout<'_, '_>, unit: &[NodeId], new: NodeId, old: NodeId) -> bool {
    let Layout { analysis, slices, .. } = *layout;
    // In the loop, what has room for all slices is needed for the next one.
    let gone = slices.stage(new) != Stage::Loop || layout.is_local(old);
    let mut users = analysis.users[old as usize].iter().filter(|user| unit.binary_search(user).is_ok());
    let elementwise = unit.iter().all(|&id| is_elementwise(&analysis.node(id).op));
    gone && elementwise
        && unit.binary_search(&new).is_ok()
        && layout.is_local(new) == slices.is_sliced(new)
        && users.all(|&user| reads_along(analysis, user, old))
}
