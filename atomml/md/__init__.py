"""Molecular dynamics with full state, restart and observables."""
