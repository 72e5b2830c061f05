//! Everything that a program can call without having written it: a table of names for each place where they live.
//!
//! To add an operation, write `fn(&mut Machine, Arguments) -> Outcome<Value>` and a row in its table.

mod math;
mod method;
mod python;

use crate::fault::{Outcome, fail};
use crate::machine::{Arguments, Machine};
use crate::tensor;
use crate::value::Value;

/// Where a name lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Python's own builtins.
    Python,
    /// `from cairn import …`.
    Cairn,
    /// `math`.
    Math,
    /// Methods of a type.
    List,
    Text,
    Dict,
    Tensor,
}

/// A builtin; the rows of a table are in order of their names.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Machine<'_>, Arguments) -> Outcome<Value>,
}

/// A row of a table.
pub(crate) const fn entry(name: &'static str, run: fn(&mut Machine<'_>, Arguments) -> Outcome<Value>) -> Entry {
    Entry { name, run }
}

const HOMES: [(Home, &[Entry]); 7] = [
    (Home::Python, python::TABLE),
    (Home::Cairn, tensor::FUNCTIONS),
    (Home::Math, math::TABLE),
    (Home::List, method::LIST),
    (Home::Text, method::TEXT),
    (Home::Dict, method::DICT),
    (Home::Tensor, tensor::METHODS),
];
/// A builtin's number: its table in the high byte, its row in the low one.
const ROWS: u16 = 256;

impl Home {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Home::Python => "builtins",
            Home::Cairn => "cairn",
            Home::Math => "math",
            Home::List => "list",
            Home::Text => "str",
            Home::Dict => "dict",
            Home::Tensor => "Tensor",
        }
    }

    fn table(self) -> (u16, &'static [Entry]) {
        let at = HOMES.iter().position(|(home, _)| *home == self).unwrap_or(0);
        (at as u16, HOMES.get(at).map_or(&[][..], |(_, table)| table))
    }
}

/// The builtin of this name.
pub(crate) fn find(home: Home, name: &str) -> Option<u16> {
    let (home, table) = home.table();
    table.binary_search_by(|entry| entry.name.cmp(name)).ok().map(|row| home * ROWS + row as u16)
}

/// The names in a place.
pub(crate) fn names(home: Home) -> impl Iterator<Item = &'static str> {
    home.table().1.iter().map(|entry| entry.name)
}

/// The float that a name stands for.
pub(crate) fn constant(home: Home, name: &str) -> Option<f64> {
    if home != Home::Math {
        return None;
    }
    match name {
        "pi" => Some(std::f64::consts::PI),
        "tau" => Some(std::f64::consts::TAU),
        "e" => Some(std::f64::consts::E),
        "inf" => Some(f64::INFINITY),
        _ => None,
    }
}

fn home_of(receiver: Value) -> Option<Home> {
    match receiver {
        Value::List(_) => Some(Home::List),
        Value::Text(_) => Some(Home::Text),
        Value::Dict(_) => Some(Home::Dict),
        Value::Tensor(..) => Some(Home::Tensor),
        _ => None,
    }
}

/// The method of this name that a value has; it takes the value as its first argument.
pub(crate) fn method(receiver: Value, name: &str) -> Option<u16> {
    find(home_of(receiver)?, name)
}

pub(crate) fn method_names(receiver: Value) -> impl Iterator<Item = &'static str> {
    home_of(receiver).into_iter().flat_map(names)
}

/// Runs a builtin.
pub(crate) fn call(machine: &mut Machine<'_>, id: u16, arguments: Arguments) -> Outcome<Value> {
    let row = HOMES.get(usize::from(id / ROWS)).and_then(|(_, table)| table.get(usize::from(id % ROWS)));
    match row {
        Some(entry) => (entry.run)(machine, arguments),
        None => fail(crate::Kind::Internal, "a builtin that is not there"),
    }
}

/// What to write instead of a name that other libraries have.
pub(crate) fn elsewhere(name: &str) -> Option<&'static str> {
    Some(match name {
        "rand" => "write uniform(shape)",
        "randn" => "write normal(shape)",
        "randint" => "write to_int(floor(uniform(shape) * n))",
        "bernoulli" => "write uniform(shape) < p, or dropout(x, p)",
        "bmm" | "mm" | "dot" | "inner" => "write a @ b, or einsum",
        "leaky_relu" => "write where(x > 0, x, 0.01 * x)",
        "elu" => "write where(x > 0, x, exp(minimum(x, 0.0)) - 1)",
        "mish" => "write x * tanh(softplus(x))",
        "swish" => "write silu(x)",
        "log1p" => "write log(1 + x)",
        "expm1" => "write exp(x) - 1",
        "std" => "write var(x, dim, correction=1) ** 0.5",
        "norm" => "write (x * x).sum(dim) ** 0.5",
        "prod" => "write exp(log(x).sum(dim)) for x above 0",
        "add" | "sub" | "mul" | "div" | "pow" => "write the operator",
        "index_select" => "write x[:, ids]",
        "eye" => "write one_hot(arange(n), n)",
        "linspace" => "write start + to_float(arange(n)) * step",
        "tensor" | "array" | "as_tensor" => "write full(shape, value), or to_float(arange(n))",
        "ema" | "EMA" => "write EMA = 0.999 at module level: evaluation then reads the averages",
        "checkpoint" => "memory is priced by the canonical schedule; use a smaller batch",
        "scaled_dot_product_attention" => "write attention(q, k, v, causal=True)",
        "nn" | "Linear" | "Module" | "Embedding" | "Parameter" | "functional" => {
            "write functions: param(name, shape) is a weight, x @ w a layer"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{HOMES, ROWS};

    #[test]
    fn tables_are_sorted_and_small_enough_for_their_numbers() {
        for (home, table) in HOMES {
            assert!(table.is_sorted_by(|a, b| a.name < b.name), "{home:?}");
            assert!(table.len() <= usize::from(ROWS));
        }
    }
}
