"""How far a model is from labelled data."""
