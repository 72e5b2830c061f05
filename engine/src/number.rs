//! The closed number system: `canon`, operand rounding, saturation (`docs/spec/arithmetic.md`).
