"""What the fast path knows of a graph before the first layer: where edges go, bonds and angles."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

__all__ = ["Geometry", "Topology"]

Array = NDArray[Any]


class Topology(NamedTuple):
    """Bonds and angles, as :func:`atomml.potentials.chgnet.fast.geometry.topology` numbers them.

    Edges are directed; a bond is two edges that are each other's reverse. Short ones are those
    within the cutoff for bonds, which make the angles.

    Attributes:
        edge_start: ``(n_atoms + 1,)`` first edge of each atom.
        undirected: ``(n_edges,)`` bond of each edge.
        primary: ``(n_bonds,)`` first edge of each bond.
        short_of: ``(n_bonds,)`` its number among the short bonds, or -1.
        short_start: ``(n_atoms + 1,)`` first short edge of each atom.
        short_edge: ``(n_short,)`` which edge each short edge is.
        short_reverse: ``(n_short,)`` its reverse among the short edges.
        short_bond: ``(n_short,)`` its short bond.
        pair: ``(n_short / 2, 2)`` the two short edges of each short bond.
        pair_bond: ``(n_short / 2,)`` its number among all bonds.
        angle_start: ``(n_atoms + 1,)`` first angle of each atom.
        angles: ``(n_angles, 2)`` the two short edges of each angle.
    """

    edge_start: Array
    undirected: Array
    primary: Array
    short_of: Array
    short_start: Array
    short_edge: Array
    short_reverse: Array
    short_bond: Array
    pair: Array
    pair_bond: Array
    angle_start: Array
    angles: Array


class Geometry(NamedTuple):
    """Where the edges of a graph go.

    Attributes:
        vectors: ``(n_edges, 3)`` float64, Å.
        distances: ``(n_edges,)`` float64, Å.
        top: Bonds and angles.
    """

    vectors: Array
    distances: Array
    top: Topology
