"""Structures brought to a minimum: one, several with a folder each, thousands in batches."""
