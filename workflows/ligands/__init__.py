"""Strain of bound ligands: chemistry, conformers, minima, libraries."""
