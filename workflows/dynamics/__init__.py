"""Molecular dynamics, and what trajectories say."""
