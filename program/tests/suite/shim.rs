//! `python/cairn`, which editors and CPython read in the language's place, has the language's names; its random numbers
//! are the engine's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use cairn_engine::random::Stream;
use cairn_program::operations;
use cairn_protocol::Seed;
use ruff_python_ast::{Expr, ModModule, Stmt, StmtFunctionDef};
use ruff_python_parser::parse_module;

use crate::common::{rows, traced};

type Names = BTreeSet<String>;

fn module(file: &str) -> ModModule {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/cairn").join(file);
    let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse_module(&source).unwrap_or_else(|error| panic!("{file}: {error}")).into_syntax()
}

fn functions(body: &[Stmt]) -> impl Iterator<Item = &StmtFunctionDef> {
    body.iter().filter_map(Stmt::as_function_def_stmt)
}

/// What is assigned to a name at the top of a module.
fn assigned<'a>(module: &'a ModModule, name: &str) -> &'a Expr {
    let is_name = |target: &Expr| target.as_name_expr().is_some_and(|target| target.id.as_str() == name);
    let value = module.body.iter().find_map(|statement| match statement {
        Stmt::Assign(assign) if assign.targets.iter().any(is_name) => Some(&*assign.value),
        Stmt::AnnAssign(assign) if is_name(&assign.target) => assign.value.as_deref(),
        _ => None,
    });
    value.unwrap_or_else(|| panic!("no {name}"))
}

fn text(expression: &Expr) -> String {
    expression.as_string_literal_expr().expect("a str").value.to_str().to_owned()
}

/// Methods of the stub's tensor that are no operators and no attributes.
fn methods(module: &ModModule) -> impl Iterator<Item = &StmtFunctionDef> {
    let tensor = module.body.iter().filter_map(Stmt::as_class_def_stmt).find(|class| class.name.as_str() == "Tensor");
    let is_property = |method: &StmtFunctionDef| {
        method.decorator_list.iter().any(|d| d.expression.as_name_expr().is_some_and(|d| d.id.as_str() == "property"))
    };
    functions(&tensor.expect("a class Tensor").body)
        .filter(move |method| !method.name.starts_with("__") && !is_property(method))
}

/// The language's own names.
fn language() -> [Names; 2] {
    let names = operations().flat_map(|operation| operation.names).map(|&name| name.to_owned()).collect();
    let methods = operations().flat_map(|operation| operation.methods).map(|&name| name.to_owned()).collect();
    [names, methods]
}

#[test]
fn stubs_and_shim_have_the_names_of_the_language() {
    let [names, tensor_methods] = language();
    let stub: Names = functions(&module("__init__.pyi").body).map(|function| function.name.to_string()).collect();
    assert_eq!(stub, names, "python/cairn/__init__.pyi");
    let init = module("__init__.py");
    let all: Names = assigned(&init, "__all__").as_list_expr().expect("a list").elts.iter().map(text).collect();
    assert_eq!(all, names, "__all__ of python/cairn/__init__.py");
    let types = module("_types.pyi");
    let stub: Names = methods(&types).map(|method| method.name.to_string()).collect();
    assert_eq!(stub, tensor_methods, "class Tensor of python/cairn/_types.pyi");
    let shim = module("_functions.py");
    let keys = assigned(&shim, "METHODS").as_dict_expr().expect("a dict").items.iter().filter_map(|i| i.key.as_ref());
    assert_eq!(keys.map(text).collect::<Names>(), tensor_methods, "METHODS of python/cairn/_functions.py");
}

/// Every argument that the manual names is one that editors know.
#[test]
fn stubs_have_the_arguments_of_the_manual() {
    let mut known: BTreeMap<String, Names> = BTreeMap::new();
    let (functions_stub, types) = (module("__init__.pyi"), module("_types.pyi"));
    for function in functions(&functions_stub.body).chain(methods(&types)) {
        let arguments = function.parameters.iter().map(|parameter| parameter.name().to_string());
        known.entry(function.name.to_string()).or_default().extend(arguments);
    }
    let mut compared = 0;
    for operation in operations() {
        let wanted = parse_module(&format!("def {}: ...", operation.signature)).expect("a signature").into_syntax();
        let wanted = functions(&wanted.body).next().expect("a function");
        for &name in operation.names {
            let found = &known[name];
            let arguments = wanted.parameters.iter().map(|parameter| parameter.name().as_str());
            let missing: Vec<&str> = arguments.filter(|argument| !found.contains(*argument)).collect();
            assert!(missing.is_empty(), "{name} of the stubs lacks {missing:?}; it has {found:?}");
            compared += 1;
        }
    }
    assert!(compared > 80, "only {compared} functions");
}

/// `cargo xtask torch` compares this program with PyTorch; here it must be one of the language.
#[test]
fn the_program_with_nearly_every_operation_traces() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/tests/operations.py");
    let source = std::fs::read_to_string(path).unwrap();
    assert!(traced(&source, &rows()).steps >= 16);
}

/// Prints hashes of texts of many lengths, and words of a stream under many counters.
const SCRIPT: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
from _blake3 import derive_key, digest
from _threefry import threefry
text = bytes(i % 251 for i in range(1024))
for n in (0, 1, 63, 64, 65, 127, 128, 129, 1000, 1023, 1024):
    print(digest(text[:n]).hex())
    print(derive_key("cairn 1 numbered seed", text[:n]).hex())
key = digest(bytes([7] * 32) + b"init" + b"block0.up")
key = tuple(int.from_bytes(key[i:i + 4], "little") for i in (0, 4))
for step in (0, 1, 70001, 2**32 - 1):
    for index in (0, 1, 2, 1001, 2**32 - 1):
        print(threefry(key, (index >> 1, step))[index & 1])
"#;

#[test]
fn the_shim_draws_the_engines_random_numbers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../python/cairn");
    let python = Command::new("python3").args(["-B", "-c", SCRIPT, folder]).output();
    let Ok(output) = python else {
        eprintln!("no python3 here: the shim's random numbers are not compared");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text: Vec<u8> = (0..1024u32).map(|i| (i % 251) as u8).collect();
    let hashes = [0, 1, 63, 64, 65, 127, 128, 129, 1000, 1023, 1024].into_iter().flat_map(|n| {
        let derived = blake3::derive_key("cairn 1 numbered seed", &text[..n]);
        [blake3::hash(&text[..n]).to_hex().to_string(), blake3::Hash::from(derived).to_hex().to_string()]
    });
    let stream = Stream::new(&Seed([7; 32]), "init", "block0.up");
    let counters = [0, 1, 70001, u32::MAX].into_iter().flat_map(|step| [0, 1, 2, 1001, u32::MAX].map(|i| (step, i)));
    let words = counters.map(|(step, index)| stream.word(step, index).to_string());
    let wanted: Vec<String> = hashes.chain(words).collect();
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(found.lines().collect::<Vec<_>>(), wanted);
}
