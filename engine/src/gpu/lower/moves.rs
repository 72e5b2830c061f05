//! TODO

use crate::graph::*;

use super::super::plan::Building;

pub(super) fn permute(_b: &mut Building<'_, '_>, _id: NodeId, _perm: &[u8]) {}
pub(super) fn slice(_b: &mut Building<'_, '_>, _id: NodeId, _axis: u8, _start: u32) {}
pub(super) fn pad(_b: &mut Building<'_, '_>, _id: NodeId, _axis: u8, _before: u32) {}
pub(super) fn concat(_b: &mut Building<'_, '_>, _id: NodeId, _axis: u8) {}
