//! TODO

use crate::graph::*;

use super::super::plan::Building;

pub(super) fn lower(_b: &mut Building<'_, '_>, _unit: &[NodeId]) {}
