//! TODO

use crate::graph::*;

use super::super::plan::Building;

pub(super) fn sum(_b: &mut Building<'_, '_>, _id: NodeId, _axes: &[u8]) {}
pub(super) fn max(_b: &mut Building<'_, '_>, _id: NodeId, _axes: &[u8]) {}
pub(super) fn argmax(_b: &mut Building<'_, '_>, _id: NodeId) {}
pub(super) fn topk(_b: &mut Building<'_, '_>, _id: NodeId, _k: u32) {}
