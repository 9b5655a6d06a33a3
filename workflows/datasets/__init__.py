"""Labelled data: imported, reported on, labelled, split."""
