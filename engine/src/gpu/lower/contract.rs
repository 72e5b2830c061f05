//! TODO

use crate::graph::*;

use super::super::plan::Building;

pub(super) fn lower(_b: &mut Building<'_, '_>, _id: NodeId, _ta: bool, _tb: bool) {}
