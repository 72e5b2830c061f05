"""What goes wrong in a program, under the names that the engine's diagnostics have."""


class ProgramError(Exception):
    """`model`, `BATCH`, ... missing or wrong, or something used where it does not belong."""


class ShapeError(Exception):
    """Tensors do not fit."""


class DivergedError(Exception):
    """A value left the finite range."""
