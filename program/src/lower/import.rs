//! `import math`, `from cairn import …`, and hints for everything else.

use ruff_python_ast::{Alias, StmtImport, StmtImportFrom};
use ruff_text_size::TextRange;

use super::{Lowerer, span, unsupported};
use crate::ast::{Imported, StmtId, StmtKind};
use crate::builtin::{self, Home};
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, nearest};

impl Lowerer<'_> {
    pub(super) fn import(&mut self, import: &StmtImport) -> Outcome<Vec<StmtId>> {
        import.names.iter().map(|alias| self.import_module(alias)).collect()
    }

    fn import_module(&mut self, alias: &Alias) -> Outcome<StmtId> {
        let imported = match alias.name.as_str() {
            "math" => Imported::Math,
            "cairn" => Imported::Cairn,
            other => return foreign(other, alias.range),
        };
        let place = self.own_place(alias.asname.as_ref().unwrap_or(&alias.name).as_str())?;
        Ok(self.push_statement(StmtKind::Import(place, imported), span(alias.range)))
    }

    pub(super) fn import_from(&mut self, import: &StmtImportFrom) -> Outcome<Vec<StmtId>> {
        let home = match import.module.as_ref().map(|module| module.as_str()) {
            Some("cairn") if import.level == 0 => Home::Cairn,
            Some("math") if import.level == 0 => Home::Math,
            Some(other) if import.level == 0 => return foreign(other, import.range),
            _ => return foreign(".", import.range),
        };
        import.names.iter().map(|alias| self.import_name(home, alias)).collect()
    }

    fn import_name(&mut self, home: Home, alias: &Alias) -> Outcome<StmtId> {
        let name = alias.name.as_str();
        if name == "*" {
            return unsupported("`import *`", alias.range, "name what you use: `from cairn import param, relu`");
        }
        let imported = match (builtin::constant(home, name), builtin::find(home, name)) {
            (Some(value), _) => Imported::Constant(value),
            (None, Some(builtin)) => Imported::Builtin(builtin),
            (None, None) => return Err(unknown(home, name).at(span(alias.range))),
        };
        let place = self.own_place(alias.asname.as_ref().unwrap_or(&alias.name).as_str())?;
        Ok(self.push_statement(StmtKind::Import(place, imported), span(alias.range)))
    }
}

/// There is no such name in `cairn` or `math`.
pub(crate) fn unknown(home: Home, name: &str) -> Box<Fault> {
    let module = home.name();
    let fault = Fault::new(Kind::Name, format!("`{module}` has no '{name}'"));
    if let Some(hint) = builtin::elsewhere(name).filter(|_| home == Home::Cairn) {
        return fault.hint(hint);
    }
    match nearest(name, builtin::names(home)) {
        Some(near) => fault.hint(format!("did you mean '{near}'?")),
        None => fault,
    }
}

fn foreign<T>(module: &str, at: TextRange) -> Outcome<T> {
    let root = module.split('.').next().unwrap_or(module);
    let hint = match root {
        "torch" | "jax" | "numpy" | "tensorflow" | "flax" | "einops" | "mlx" | "tinygrad" | "keras" => {
            "tensor operations come from `from cairn import param, softmax, …`; their names follow PyTorch and JAX"
        }
        "random" => "randomness comes from `from cairn import uniform, normal, dropout`, keyed by the run's seed",
        "typing" | "__future__" | "dataclasses" => "annotations may be left out or written with builtin names only",
        "os" | "sys" | "time" | "pathlib" | "io" | "json" | "pickle" | "requests" | "urllib" | "subprocess" => {
            "a program only builds a graph: it has no files, network, clock or processes"
        }
        _ => "only `cairn` and `math` can be imported",
    };
    unsupported(&format!("`import {module}`"), at, hint)
}
