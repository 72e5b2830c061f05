//! Own elementary functions: a fixed number of add, subtract, multiply and integer steps, without branches.
