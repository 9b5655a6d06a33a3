"""Point defects: in one crystal by relaxation, on every site of thousands."""
