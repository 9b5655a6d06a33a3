"""Density functionals and Hamiltonians: energies, labels, trainings, self-consistent fields."""
