//! `einsum(equation, a)` and `einsum(equation, a, b)`: sums, permutations and one matrix product.

use cairn_engine::graph::{Binary, NodeId, Shape};

use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

/// A tensor and the letter of each of its axes.
#[derive(Clone, Debug)]
struct Lettered {
    id: NodeId,
    letters: Vec<u8>,
}

pub(super) fn einsum(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [equation, first, second] = a.bind(m, "einsum", ["equation", "a", "b"], 2)?;
    let equation = m.text_argument("einsum: equation", equation.unwrap_or(Value::None))?;
    let given = [first, second].into_iter().flatten().collect::<Vec<_>>();
    m.burn(equation.len() as u64)?;
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let Some((inputs, output)) = equation.split_once("->") else {
        return fail_hint(Kind::Value, "einsum: the equation has no `->`", "write the result out: \"bij,bjk->bik\"");
    };
    let inputs: Vec<&str> = inputs.split(',').collect();
    if inputs.len() != given.len() {
        return fail(Kind::Value, format!("einsum: {} operands in the equation, {} given", inputs.len(), given.len()));
    }
    let output = distinct(output)?;
    let mut operands = Vec::with_capacity(given.len());
    for (letters, value) in inputs.into_iter().zip(given) {
        let (id, letters) = (m.float_operand("einsum", value)?, alphabetic(letters)?);
        let shape = m.shape_of(id)?;
        if shape.len() != letters.len() {
            return fail(Kind::Shape, format!("einsum: {} letters for a tensor of shape {shape:?}", letters.len()));
        }
        operands.push(m.without_twins(Lettered { id, letters })?);
    }
    if let Some(unknown) = output.iter().find(|letter| !operands.iter().any(|of| of.letters.contains(letter))) {
        return fail(Kind::Value, format!("einsum: '{}' of the result is in no operand", char::from(*unknown)));
    }
    let result = match &operands[..] {
        [single] => m.summed(single, &output, &[])?,
        [a, b] => {
            let (a, b) = (m.summed(a, &output, &b.letters)?, m.summed(b, &output, &a.letters)?);
            m.contracted(&a, &b, &output)?
        }
        _ => return fail(Kind::Type, "einsum: one or two operands"),
    };
    let order = m.ordered(&result, &output)?;
    Ok(m.tensor_of(order.id))
}

/// The first letter that stands twice, and where.
fn twins(letters: &[u8]) -> Option<(usize, usize)> {
    (0..letters.len()).find_map(|second| {
        let first = letters.iter().take(second).position(|letter| Some(letter) == letters.get(second))?;
        Some((first, second))
    })
}

/// Letters of the result: none of them twice.
fn distinct(letters: &str) -> Outcome<Vec<u8>> {
    let letters = alphabetic(letters)?;
    match twins(&letters) {
        Some((at, _)) => {
            let letter = letters.get(at).map_or('?', |&byte| char::from(byte));
            fail(Kind::Value, format!("einsum: '{letter}' stands twice in the result"))
        }
        None => Ok(letters),
    }
}

/// Letters of one operand: a to z and A to Z.
fn alphabetic(letters: &str) -> Outcome<Vec<u8>> {
    let bytes = letters.as_bytes();
    if let Some(i) = bytes.iter().position(|byte| !byte.is_ascii_alphabetic()) {
        let shown = letters.get(i..).and_then(|rest| rest.chars().next()).unwrap_or('?');
        return fail_hint(
            Kind::Value,
            format!("einsum: '{shown}' is no letter"),
            "name every axis by a letter, `...` too",
        );
    }
    Ok(bytes.to_vec())
}

impl Machine<'_> {
    /// The diagonal of each pair of axes with one letter: every (n + 1)-th element of the n² that they have together.
    fn without_twins(&mut self, mut of: Lettered) -> Outcome<Lettered> {
        while let Some((first, second)) = twins(&of.letters) {
            let shape = self.shape_of(of.id)?;
            let [n, other] = [first, second].map(|at| shape.get(at).copied().unwrap_or(1));
            let letter = of.letters.get(first).copied().unwrap_or(b'?');
            if n != other {
                let letter = char::from(letter);
                return fail(Kind::Shape, format!("einsum: axis '{letter}' has lengths [{n}] and [{other}]"));
            }
            let others = (0..shape.len()).filter(|&at| at != first && at != second);
            let perm: Vec<u8> = others.clone().chain([first, second]).map(|at| at as u8).collect();
            let mut lengths: Vec<i64> = others.clone().filter_map(|at| shape.get(at)).map(|&n| n.into()).collect();
            let last = lengths.len() as u8;
            lengths.push(i64::from(n) * i64::from(n));
            let flat = self.new_shape("einsum", &lengths)?;
            let together = self.permuted(of.id, &perm)?;
            let together = self.build(1, |graph| graph.reshape(together, flat))?;
            let together = self.node("einsum", together)?;
            let diagonal = self.stepped_axis(together, last, [0, n, n + 1])?;
            let letters = others.filter_map(|at| of.letters.get(at)).copied().chain([letter]).collect();
            of = Lettered { id: self.node("einsum", diagonal)?, letters };
        }
        Ok(of)
    }

    /// A tensor without the axes that neither the result nor the other operand has.
    fn summed(&mut self, of: &Lettered, output: &[u8], other: &[u8]) -> Outcome<Lettered> {
        let kept = |letter: &u8| output.contains(letter) || other.contains(letter);
        let axes: Vec<u8> =
            (0u8..).zip(&of.letters).filter(|(_, letter)| !kept(letter)).map(|(axis, _)| axis).collect();
        if axes.is_empty() {
            return Ok(of.clone());
        }
        let shape = self.shape_of(of.id)?;
        let rest = shape.iter().zip(&of.letters).filter(|(_, letter)| kept(letter)).map(|(&n, _)| n).collect();
        let (id, letters) = (of.id, of.letters.iter().copied().filter(|letter| kept(letter)).collect());
        let sum = self.build(1, |graph| graph.sum(id, &axes))?;
        let sum = self.node("einsum", sum)?;
        let flat = self.build(1, |graph| graph.reshape(sum, Shape(rest)))?;
        Ok(Lettered { id: self.node("einsum", flat)?, letters })
    }

    /// Axes in this order of letters.
    fn ordered(&mut self, of: &Lettered, letters: &[u8]) -> Outcome<Lettered> {
        let place = |letter: &u8| of.letters.iter().position(|own| own == letter).map(|at| at as u8);
        let Some(perm) = letters.iter().map(place).collect::<Option<Vec<u8>>>() else {
            return fail(Kind::Internal, "einsum: a letter without its axis");
        };
        if perm.iter().copied().eq(0..of.letters.len() as u8) {
            return Ok(of.clone());
        }
        let id = of.id;
        let permuted = self.build(1, |graph| graph.permute(id, &perm))?;
        Ok(Lettered { id: self.node("einsum", permuted)?, letters: letters.to_vec() })
    }

    /// The lengths of letters in an operand.
    fn lengths(&self, of: &Lettered, letters: &[u8]) -> Outcome<Vec<u32>> {
        let shape = self.shape_of(of.id)?;
        let place = |letter: &u8| of.letters.iter().position(|own| own == letter);
        Ok(letters.iter().filter_map(|letter| shape.get(place(letter)?).copied()).collect())
    }

    /// Axes in order and flattened into the given runs of letters.
    fn flattened(&mut self, of: &Lettered, runs: [&[u8]; 3]) -> Outcome<NodeId> {
        let ordered = self.ordered(of, &runs.concat())?;
        let mut shape = Vec::with_capacity(3);
        for run in runs {
            let product = Shape(self.lengths(&ordered, run)?).elements();
            shape.push(i64::try_from(product).unwrap_or(i64::MAX));
        }
        let shape = self.new_shape("einsum", &shape)?;
        let flat = self.build(1, |graph| graph.reshape(ordered.id, shape))?;
        self.node("einsum", flat)
    }

    /// The product of two operands whose every axis is in the result or in both.
    fn contracted(&mut self, a: &Lettered, b: &Lettered, output: &[u8]) -> Outcome<Lettered> {
        let common = |letter: &u8| a.letters.contains(letter) && b.letters.contains(letter);
        let batch: Vec<u8> = output.iter().copied().filter(|letter| common(letter)).collect();
        let inner: Vec<u8> =
            a.letters.iter().copied().filter(|letter| common(letter) && !output.contains(letter)).collect();
        for letter in batch.iter().chain(&inner) {
            let (left, right) = (self.lengths(a, &[*letter])?, self.lengths(b, &[*letter])?);
            if left != right {
                let letter = char::from(*letter);
                return fail(Kind::Shape, format!("einsum: axis '{letter}' has lengths {left:?} and {right:?}"));
            }
        }
        let rows: Vec<u8> = a.letters.iter().copied().filter(|letter| !common(letter)).collect();
        let columns: Vec<u8> = b.letters.iter().copied().filter(|letter| !common(letter)).collect();
        let lengths = [self.lengths(a, &batch)?, self.lengths(a, &rows)?, self.lengths(b, &columns)?].concat();
        let (left, right) =
            (self.flattened(a, [&batch, &rows, &inner])?, self.flattened(b, [&batch, &inner, &columns])?);
        // Without an axis to sum over it is a product of elements, which rounds once.
        let product = match (inner.is_empty(), batch.is_empty()) {
            (true, _) => self.build(2, |graph| graph.binary(Binary::Mul, left, right))?,
            (false, true) => {
                let (left, right) = (self.without_batch(left)?, self.without_batch(right)?);
                self.build(2, |graph| graph.matmul(left, right))?
            }
            (false, false) => self.build(2, |graph| graph.matmul(left, right))?,
        };
        let product = self.node("einsum", product)?;
        let shaped = self.build(1, |graph| graph.reshape(product, Shape(lengths)))?;
        Ok(Lettered { id: self.node("einsum", shaped)?, letters: [batch, rows, columns].concat() })
    }

    fn without_batch(&mut self, id: NodeId) -> Outcome<NodeId> {
        let value = self.without_axis(self.tensor_of(id), 0)?;
        self.node("einsum", value)
    }
}
