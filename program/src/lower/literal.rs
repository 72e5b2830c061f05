//! How much information a program's literals hold, so that nobody hides validation data in them.
//!
//! The count is of the text, so that its author can count along:
//! * a number: 4 bits for each character as written, underscores aside (`3e-3` is 16 bits, `10_000` is 20);
//! * text, also that of f-strings: 8 bits for each byte of its value; a docstring counts nothing, for nothing can read it;
//! * `True`, `False`, `None`: 1 bit;
//! * every element of a list, tuple or dict display that is no literal: 2 bits, for which of a few names is written
//!   can spell data too.
//!
//! Names of parameters are text. Names of variables, comments and white space count nothing.

use ruff_python_ast::Expr;
use ruff_text_size::TextRange;

use super::Lowerer;

const NUMBER_CHARACTER: u64 = 4;
const TEXT_BYTE: u64 = 8;
const CONSTANT: u64 = 1;
const ELEMENT: u64 = 2;

impl Lowerer<'_> {
    pub(super) fn count_number(&mut self, at: TextRange) {
        let written = self.source.get(at.start().to_usize()..at.end().to_usize()).unwrap_or("");
        self.ast.literal_bits += NUMBER_CHARACTER * written.bytes().filter(|&byte| byte != b'_').count() as u64;
    }

    pub(super) fn count_text(&mut self, text: &str) {
        self.ast.literal_bits += TEXT_BYTE * text.len() as u64;
    }

    pub(super) fn count_constant(&mut self) {
        self.ast.literal_bits += CONSTANT;
    }

    pub(super) fn count_element(&mut self, element: &Expr) {
        if !element.is_literal_expr() {
            self.ast.literal_bits += ELEMENT;
        }
    }
}
