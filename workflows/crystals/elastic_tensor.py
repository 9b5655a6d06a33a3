"""Elastic tensors in Voigt's notation: symmetry, what has to be measured, and what follows from one.

Order xx yy zz yz xz xy; strains of shear are the change of the angle, ``2 ε_yz``. Everything in GPa.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "Moduli",
    "fit_tensor",
    "ieee_tensor",
    "moduli_of",
    "needed_patterns",
    "rotated",
    "strain_matrix",
    "tensor_basis",
    "youngs_modulus",
]

_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_ROUNDING = 1e-9  # part of the largest constant below which one is 0 but for the turning
_SAME = 1e-8  # singular values below this part of the largest are zero


def rotated(tensor: Array, rotation: Array) -> Array:
    """The tensor ``(6, 6)`` of a crystal that was turned by ``rotation`` ``(3, 3)``."""
    turn = _stress_rotation(rotation)
    return turn @ tensor @ turn.T


def _stress_rotation(rotation: Array) -> Array:
    """``(6, 6)``: Voigt stresses in turned axes, ``σ'_ij = R_ik R_jl σ_kl``."""
    turn = np.empty((6, 6))
    for row, (i, j) in enumerate(_PAIRS):
        for column, (k, m) in enumerate(_PAIRS):
            turn[row, column] = rotation[i, k] * rotation[j, m]
            if k != m:
                turn[row, column] += rotation[i, m] * rotation[j, k]
    return turn


def tensor_basis(rotations: Array) -> Array:
    """``(n, 6, 6)``: an orthonormal basis of the symmetric tensors that the rotations leave as they are.

    Its length is the number of independent elastic constants: 3 of a cubic crystal, 21 of a triclinic
    one (J. F. Nye, Physical Properties of Crystals, table 9).
    """
    turns = np.array([_stress_rotation(rotation) for rotation in rotations])
    averaged = []
    for i in range(6):
        for j in range(i, 6):
            unit = np.zeros((6, 6))
            unit[i, j] = unit[j, i] = 1.0
            averaged.append(np.einsum("nab,bc,ndc->ad", turns, unit, turns).ravel() / len(turns))
    _, sizes, rows = np.linalg.svd(np.array(averaged))
    return rows[: int((sizes > _SAME * sizes[0]).sum())].reshape(-1, 6, 6)


def needed_patterns(basis: Array) -> tuple[int, ...]:
    """The fewest of the six strain patterns whose stresses fix every constant; the best conditioned ones."""
    for size in range(1, 7):
        found = []
        for patterns in combinations(range(6), size):
            sizes = np.linalg.svd(_design(basis, patterns), compute_uv=False)
            if len(sizes) == len(basis) and sizes[-1] > 1e-6 * sizes[0]:
                found.append((-round(float(sizes[-1] / sizes[0]), 6), patterns))
        if found:
            return min(found)[1]
    raise AssertionError("six patterns fix every tensor")


def _design(basis: Array, patterns: Sequence[int]) -> Array:
    """``(6 · n_patterns, n)``: stresses of unit strains for each tensor of the basis."""
    return np.array([one[:, list(patterns)].T.ravel() for one in basis]).T


def fit_tensor(basis: Array, patterns: Sequence[int], slopes: Array) -> tuple[Array, float]:
    """The tensor ``(6, 6)`` whose columns fit ``slopes``, and the fit's rms.

    Args:
        basis: Of :func:`tensor_basis`.
        patterns: Columns that were measured.
        slopes: ``(n_patterns, 6)`` stress per strain.
    """
    design = _design(basis, patterns)
    weights = np.linalg.lstsq(design, slopes.ravel(), rcond=None)[0]
    rms = float(np.sqrt(np.mean((design @ weights - slopes.ravel()) ** 2)))
    return np.einsum("n,nij->ij", weights, basis), rms


def strain_matrix(pattern: int, amount: float) -> Array:
    """``(3, 3)``: the symmetric strain of a Voigt pattern; of a shear, half on either side."""
    i, j = _PAIRS[pattern]
    strain = np.zeros((3, 3))
    strain[i, j] = strain[j, i] = amount if i == j else amount / 2
    return strain


def youngs_modulus(tensor: Array, directions: Array) -> Array:
    """Young's modulus along unit vectors ``(n, 3)``: ``1/E = S_ijkl n_i n_j n_k n_l`` (Nye, chapter 8)."""
    pairs = np.array([directions[:, i] * directions[:, j] for i, j in _PAIRS]).T
    return 1 / np.einsum("ni,ij,nj->n", pairs, np.linalg.inv(tensor), pairs)


class Moduli(NamedTuple):
    """What follows from a tensor, as in ``ElasticResult``; None where the crystal is unstable."""

    stable: bool
    smallest_eigenvalue: float
    bulk: tuple[float, float, float]
    shear: tuple[float, float, float]
    youngs: float | None
    poisson: float | None
    anisotropy: float | None
    youngs_range: tuple[float, float] | None
    sound: tuple[float, float, float] | None
    debye: float | None


def moduli_of(tensor: Array, atoms: Atoms) -> Moduli:
    """Averages, sound speeds and Debye temperature by pymatgen, in GPa, m/s and K.

    A tensor is stable if its eigenvalues are all positive: F. Mouhat and F.-X. Coudert, Phys. Rev. B 90,
    224104 (2014). Voigt, Reuss and Hill: R. Hill, Proc. Phys. Soc. A 65, 349 (1952). Anisotropy:
    S. I. Ranganathan and M. Ostoja-Starzewski, Phys. Rev. Lett. 101, 055504 (2008). Debye temperature:
    O. L. Anderson, J. Phys. Chem. Solids 24, 909 (1963).
    """
    from pymatgen.analysis.elasticity import ElasticTensor
    from pymatgen.io.ase import AseAtomsAdaptor

    smallest = float(np.linalg.eigvalsh(tensor)[0])
    found = ElasticTensor.from_voigt(tensor)
    bulk = (float(found.k_voigt), float(found.k_reuss), float(found.k_vrh))
    shear = (float(found.g_voigt), float(found.g_reuss), float(found.g_vrh))
    if smallest <= 0:
        return Moduli(False, smallest, bulk, shear, None, None, None, None, None, None)
    crystal = AseAtomsAdaptor.get_structure(atoms)
    slow, fast = float(found.trans_v(crystal)), float(found.long_v(crystal))
    along = youngs_modulus(tensor, _directions(20_000))
    return Moduli(
        True,
        smallest,
        bulk,
        shear,
        float(found.y_mod) / 1e9,  # pymatgen gives this one in Pa, and its other moduli in GPa
        float(found.homogeneous_poisson),
        float(found.universal_anisotropy),
        (float(along.min()), float(along.max())),
        (slow, fast, float((3 / (2 / slow**3 + 1 / fast**3)) ** (1 / 3))),
        float(found.debye_temperature(crystal)),
    )


def _directions(n: int) -> Array:
    """``(n + 13, 3)``: a spiral over the sphere, and the axes, face and body diagonals."""
    height = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    radius = np.sqrt(1 - height**2)
    spiral = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height])
    special = np.array([d for d in np.ndindex(3, 3, 3) if d > (1, 1, 1)], dtype=np.float64) - 1
    return np.vstack([spiral, special / np.linalg.norm(special, axis=1, keepdims=True)])


def ieee_tensor(tensor: Array, atoms: Atoms) -> Array:
    """The tensor in the axes that the IEEE standard of 1987 gives to this crystal; by pymatgen."""
    import warnings

    from pymatgen.analysis.elasticity import ElasticTensor
    from pymatgen.io.ase import AseAtomsAdaptor

    crystal: Any = AseAtomsAdaptor.get_structure(atoms)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ElasticTensor.from_voigt(tensor).convert_to_ieee(crystal, initial_fit=False)
    turned = np.array(found.voigt, dtype=np.float64)
    return np.where(np.abs(turned) > _ROUNDING * np.abs(turned).max(), turned, 0.0)
