//! TODO

use crate::graph::*;

use super::super::plan::Building;

pub(super) fn forward(_b: &mut Building<'_, '_>, _id: NodeId, _o: &Attention) {}
pub(super) fn backward(_b: &mut Building<'_, '_>, _unit: &[NodeId], _o: &Attention) {}
