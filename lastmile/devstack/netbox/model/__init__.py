"""The kinds of objects of the stand-in: fields, validation, constraints, and the differences of versions."""
