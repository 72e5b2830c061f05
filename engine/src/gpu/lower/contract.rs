//! Matrix products: see [`crate::reference::contract`].

use crate::graph::NodeId;

use super::super::kernel::View;
use super::super::plan::Building;
use super::operand::{Layout, Operand};
use super::product::{Output, Product};

/// A matrix product, or one for each index of a leading axis.
pub(super) fn lower(building: &mut Building<'_, '_>, id: NodeId, ta: bool, tb: bool) {
    let (a, b, view) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let (rows, columns) = (axis(&view, 2), axis(&view, 1));
    let k = axis(&a, if ta { 2 } else { 1 });
    let along = |k_is_last: bool, lines: usize| {
        if k_is_last { Layout::AlongK { step: k } } else { Layout::AlongLines { step: lines } }
    };
    let product = Product {
        label: "matmul",
        batches: view.len() / (rows * columns),
        k,
        a: Operand { view: a, lines: rows, batch: rows * k, layout: along(!ta, rows) },
        b: Operand { view: b, lines: columns, batch: k * columns, layout: along(tb, columns) },
        output: Output { view, step: columns, batch: rows * columns, images: None },
        is_sum: building.is_sum(id),
    };
    product.lower(building);
}

/// Length of an axis, counted from behind the last.
fn axis(view: &View, from_end: usize) -> usize {
    view.shape.len().checked_sub(from_end).map_or(1, |axis| view.shape[axis] as usize)
}
