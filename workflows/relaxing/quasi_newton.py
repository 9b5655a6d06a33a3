"""Optimisers that start from a Hessian somebody else knows, such as that of a force field.

ASE's optimisers start from one stiffness for all coordinates (70 eV/Å²), and a molecule has bonds that are
a thousand times stiffer than its torsions: most of their steps find that out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Movable", "QuasiNewton", "StiffFirst"]

_SOFTEST = 0.1  # eV/Å²; softer or negative curvature of the guess counts as this: no step runs away
_STIFF = 2.0  # eV/Å²; softer counts as this where stiff coordinates shall give way first
_SHARE = 0.7  # of a Newton step: converges where the true curvature is up to 2.8 times the guess
_NOISE = 1e-10  # part of a curvature that is rounding


class Movable(Protocol):
    """What is optimised; :class:`atomml.workflows.relaxing.relaxation_coordinates.Coordinates` is one."""

    def get_x(self) -> Array:
        """Coordinates, flat."""

    def set_x(self, x: Array) -> None:
        """Take new coordinates."""

    def get_gradient(self) -> Array:
        """Gradient of the energy at the coordinates, flat."""

    def get_value(self) -> float:
        """Energy at the coordinates, eV."""


class QuasiNewton:
    """BFGS with the inverse Hessian (Nocedal and Wright, Numerical Optimization, 2nd ed., eq. 6.17).

    A step that raises the energy while the gradient grows too halves the longest step, and what it has taught
    of the curvature is what the next one needs; one that lowers it lets the steps grow again.

    Args:
        target: What is optimised.
        guess: Gives the Hessian ``(n, n)`` at the start, eV/Å²; asked at the first step only.
        maxstep: Farthest that an atom moves in a step, Å.
    """

    def __init__(self, target: Movable, guess: Callable[[], Array], maxstep: float = 0.2) -> None:
        self.target, self.guess, self.maxstep = target, guess, maxstep
        self._longest = maxstep
        self._inverse: Array | None = None
        self._last: tuple[Array, Array, float] | None = None

    def step(self) -> None:
        """Move once, by the gradient that the target has now."""
        x, gradient, value = self.target.get_x(), self.target.get_gradient(), self.target.get_value()
        if self._inverse is None:
            self._inverse = _inverted(self.guess(), _SOFTEST)
        if self._last is not None:
            self._learn(x - self._last[0], gradient - self._last[1])
            grown = np.abs(gradient).max() > np.abs(self._last[1]).max()
            if value > self._last[2] and grown:
                self._longest *= 0.5
            else:
                self._longest = min(self.maxstep, 1.5 * self._longest)
        assert self._inverse is not None
        move = -self._inverse @ gradient
        farthest = float(np.linalg.norm(move.reshape(-1, 3), axis=1).max())
        if farthest > self._longest:
            move *= self._longest / farthest
        self._last = (x, gradient, value)
        self.target.set_x(x + move)

    def _learn(self, moved: Array, changed: Array) -> None:
        """The update; curvature that is not positive teaches nothing."""
        along = float(moved @ changed)
        if along <= _NOISE * float(np.linalg.norm(moved) * np.linalg.norm(changed)):
            return
        assert self._inverse is not None
        image = self._inverse @ changed
        outer = np.outer(image, moved)
        grow = (1 + float(changed @ image) / along) / along
        self._inverse = self._inverse + grow * np.outer(moved, moved) - (outer + outer.T) / along


class StiffFirst:
    """Newton's steps by the guess alone, in which soft coordinates count as stiff ones and so hardly move.

    Bonds and angles reach their minimum in some steps, while torsions stay about where they are. Nothing is
    learnt on the way, so a small change of the start is a small change of the end. A step that raises the
    energy halves the next; one that lowers it lets them grow again.

    Args:
        target: What is optimised.
        guess: Gives the Hessian ``(n, n)``, eV/Å², where the target is; asked at every step.
        maxstep: Farthest that an atom moves in a step, Å.
    """

    def __init__(self, target: Movable, guess: Callable[[], Array], maxstep: float = 0.2) -> None:
        self.target, self.guess, self.maxstep = target, guess, maxstep
        self._share = _SHARE
        self._last: float | None = None

    def step(self) -> None:
        """Move once, by the gradient that the target has now."""
        gradient, value = self.target.get_gradient(), self.target.get_value()
        rose = self._last is not None and value > self._last
        self._share = 0.5 * self._share if rose else min(_SHARE, 1.5 * self._share)
        self._last = value
        move = -self._share * (_inverted(self.guess(), _STIFF) @ gradient)
        farthest = float(np.linalg.norm(move.reshape(-1, 3), axis=1).max())
        self.target.set_x(self.target.get_x() + move * min(1.0, self.maxstep / max(farthest, 1e-12)))


def _inverted(hessian: Array, softest: float) -> Array:
    """The inverse of a Hessian in which soft and negative curvatures are ``softest``."""
    curvatures, modes = np.linalg.eigh(hessian)
    return (modes / np.maximum(np.abs(curvatures), softest)) @ modes.T
