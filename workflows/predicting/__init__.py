"""Energies, forces and stress of structures as they are, in one process or for another program."""
