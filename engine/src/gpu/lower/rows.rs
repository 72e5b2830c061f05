//! TODO

use crate::graph::*;

use super::super::plan::Building;

pub(super) fn lower(_b: &mut Building<'_, '_>, _id: NodeId, _op: RowOp) {}
pub(super) fn rope(_b: &mut Building<'_, '_>, _id: NodeId, _base: u32, _inverse: bool) {}
