"""Typed errors: each says in one sentence what is wrong, where, and what to do.

The command line turns them into its exit codes (``exit_code``): 2 for a wrong
input or option, 1 for a run that failed.
"""

from __future__ import annotations

__all__ = [
    "AtomMLError",
    "CheckpointError",
    "FileFormatError",
    "InputError",
    "LabelError",
    "MissingExtraError",
    "ModelError",
    "OptionError",
    "RunFailedError",
    "StructureError",
]


class AtomMLError(Exception):
    """Base of every error that atomml raises on purpose."""

    exit_code: int = 1


class InputError(AtomMLError):
    """Something that the user gave is wrong."""

    exit_code = 2


class StructureError(InputError):
    """A structure that no model can take: NaN positions, coincident atoms, a flat periodic cell."""


class FileFormatError(InputError):
    """A file that cannot be read, or whose content contradicts itself."""


class OptionError(InputError):
    """An option or configuration value that does not exist or lies outside its range."""


class ModelError(InputError):
    """A model that is unknown, or that does not cover what it is asked for (element, charge, head)."""


class CheckpointError(InputError):
    """A checkpoint that is damaged, of an unknown version, or not one of ours."""


class MissingExtraError(InputError):
    """An optional dependency is not installed; the sentence names the extra that brings it."""

    @classmethod
    def for_extra(cls, package: str, extra: str) -> MissingExtraError:
        """The error for a missing ``package`` that ``pip install 'atomml[extra]'`` brings."""
        return cls(f"{package} is not installed: run pip install 'atomml[{extra}]' to use this.")


class RunFailedError(AtomMLError):
    """A run that started well and failed: a blow-up, a model that gave NaN."""


class LabelError(RunFailedError):
    """A structure that got no label, such as one whose self-consistent field did not converge."""
