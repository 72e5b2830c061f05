//! Which nodes run together: chains of elementwise nodes, and the gradients of one attention.
//!
//! A unit runs in one stage (see [`super::slices`]), where its last node stands in the graph's order. That is sound as
//! long as nobody outside of the unit uses a member before; so a node joins the units of its operands only when their
//! other users come later.
//!
//! *Invariant:* every user of a member of a unit is in the unit, runs in a later stage, or has an id above the unit's last
//! node.

use crate::graph::{NodeId, Op};

use super::analysis::{Analysis, is_elementwise};
use super::slices::Slices;

/// Most nodes of a unit: more would not fit the first-level cache.
const NODES_MAX: usize = 200;

/// No unit.
const NONE: u32 = u32::MAX;

/// Nodes that run as one step, ascending, in the order of their stages and, within one, of their last nodes.
pub(crate) fn units(analysis: &Analysis<'_>, slices: &Slices) -> Vec<Vec<NodeId>> {
    let n = analysis.graph.len();
    let mut building = Building { analysis, slices, unit_of: vec![NONE; n], units: Vec::new() };
    for id in 0..n as NodeId {
        if analysis.needed[id as usize] && analysis.is_computed(id) {
            building.unit_of[id as usize] = building.units.len() as u32;
            building.units.push(vec![id]);
            if analysis.fuse {
                building.join(id);
            }
        }
    }
    let mut units: Vec<Vec<NodeId>> = building.units.into_iter().filter(|unit| !unit.is_empty()).collect();
    units.sort_by_key(|unit| unit.last().map(|&id| (slices.stage(id), id)));
    units
}

struct Building<'a, 'g> {
    analysis: &'a Analysis<'g>,
    slices: &'a Slices,
    unit_of: Vec<u32>,
    units: Vec<Vec<NodeId>>,
}

impl Building<'_, '_> {
    /// Lets the newest node join the units it may join, one by one.
    fn join(&mut self, id: NodeId) {
        for with in self.partners(id) {
            let (unit, own) = (self.unit_of[with as usize], self.unit_of[id as usize]);
            if unit != NONE && unit != own && self.may_join(unit, own, id) {
                let mut members = std::mem::take(&mut self.units[unit as usize]);
                members.iter().for_each(|&member| self.unit_of[member as usize] = own);
                members.append(&mut self.units[own as usize]);
                members.sort_unstable();
                self.units[own as usize] = members;
            }
        }
    }

    /// Nodes whose units a node would like to join.
    fn partners(&self, id: NodeId) -> Vec<NodeId> {
        let node = self.analysis.node(id);
        match &node.op {
            op if is_elementwise(op) => {
                let alike = |&with: &NodeId| {
                    is_elementwise(&self.analysis.node(with).op)
                        && self.slices.stage(with) == self.slices.stage(id)
                        && self.analysis.len(with) == self.analysis.len(id)
                        && self.analysis.constant[with as usize] == self.analysis.constant[id as usize]
                };
                self.analysis.operands(id).filter_map(|operand| self.analysis.root(operand)).filter(alike).collect()
            }
            Op::AttentionGrad(options, _) => {
                let alike = |with: &NodeId| {
                    let other = self.analysis.node(*with);
                    matches!(&other.op, Op::AttentionGrad(others, _) if others == options)
                        && other.inputs == node.inputs
                        && self.slices.stage(*with) == self.slices.stage(id)
                };
                (id.saturating_sub(8)..id).filter(alike).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the unit may wait for node `id`.
    fn may_join(&self, unit: u32, own: u32, id: NodeId) -> bool {
        let members = &self.units[unit as usize];
        members.len() + self.units[own as usize].len() <= NODES_MAX
            && members.iter().all(|&member| {
                self.analysis.users[member as usize].iter().all(|&user| {
                    let of = self.unit_of[user as usize];
                    user > id
                        || self.slices.stage(user) > self.slices.stage(id)
                        || ((of == unit || of == own) && self.reads_whole(user, member))
                })
            })
    }

    /// Whether a node reads another one only element by element: a part of it would not be there in time.
    fn reads_whole(&self, user: NodeId, member: NodeId) -> bool {
        let analysis = self.analysis;
        let len = analysis.len(member);
        analysis.operands(user).filter(|&it| analysis.root(it) == Some(member)).all(|it| analysis.len(it) == len)
    }
}
