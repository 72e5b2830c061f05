//! TODO

use crate::graph::*;

use super::super::plan::Building;

pub(super) fn embedding(_b: &mut Building<'_, '_>, _id: NodeId) {}
pub(super) fn embedding_grad(_b: &mut Building<'_, '_>, _id: NodeId, _rows: u32) {}
pub(super) fn take(_b: &mut Building<'_, '_>, _id: NodeId) {}
pub(super) fn take_grad(_b: &mut Building<'_, '_>, _id: NodeId, _n: u32) {}
pub(super) fn gather(_b: &mut Building<'_, '_>, _id: NodeId, _axis: u8) {}
pub(super) fn scatter_add(_b: &mut Building<'_, '_>, _id: NodeId, _axis: u8, _len: u32) {}
