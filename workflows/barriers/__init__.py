"""Barriers between two minima, by nudged elastic bands."""
