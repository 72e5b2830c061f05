//! TODO

use crate::graph::*;

use super::super::plan::Building;

pub(super) fn forward(_b: &mut Building<'_, '_>, _id: NodeId, _o: Conv2d) {}
pub(super) fn input_grad(_b: &mut Building<'_, '_>, _id: NodeId, _o: Conv2d) {}
pub(super) fn weight_grad(_b: &mut Building<'_, '_>, _id: NodeId, _o: Conv2d) {}
