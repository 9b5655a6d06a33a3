"""Several heads of a model trained at once: which files teach which, how much each counts, new heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import OptionError

if TYPE_CHECKING:
    from atomml.data.dataset import Dataset
    from atomml.data.label_keys import LabelKeys
    from atomml.model import Potential
    from atomml.train.survey import Survey

__all__ = [
    "Files",
    "as_texts",
    "grown",
    "head_weights",
    "heads_of",
    "open_by_head",
    "split_head",
    "with_heads",
]

Files = str | Path | Sequence[str | Path] | Mapping[str, str | Path | Sequence[str | Path]]
"""Files of a training; a mapping names the head that each teaches, as ``HEAD=FILE`` does."""


def as_texts(files: Files) -> tuple[str, ...]:
    """The files as a flat list; those of a head as ``HEAD=FILE``."""
    if isinstance(files, str | Path):
        return (str(files),)
    if isinstance(files, Mapping):
        return tuple(f"{head}={path}" for head, paths in files.items() for path in as_texts(paths))
    return tuple(map(str, files))


def split_head(text: str) -> tuple[str, str]:
    """Head and path of ``HEAD=FILE``; "" and the path of a file whose own name holds the sign, or none."""
    head, sign, path = text.partition("=")
    if not sign or not head or "/" in head or Path(text).exists():
        return "", text
    return head, path


def open_by_head(texts: Sequence[str], keys: LabelKeys) -> Dataset:
    """The entries of the files, each with its head.

    Raises:
        OptionError: Some files name a head and others do not.
        InputError: A file that cannot be read.
    """
    from atomml.data.dataset import ConcatDataset, HeadDataset, open_dataset

    by_head: dict[str, list[str]] = {}
    for text in texts:
        head, path = split_head(text)
        by_head.setdefault(head, []).append(path)
    if len(by_head) > 1 and "" in by_head:
        raise OptionError(
            f"{by_head[''][0]} names no head, and other files do: write HEAD={by_head[''][0]}, or no heads."
        )
    sets = [(head, open_dataset(paths, keys)) for head, paths in by_head.items()]
    parts = [HeadDataset(one, head) if head else one for head, one in sets]
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def heads_of(surveys: Mapping[str, Survey]) -> tuple[str, ...]:
    """The heads of the training set, in the order of its files; none where it names none.

    Raises:
        OptionError: Another set holds a head that is not trained.
    """
    heads = tuple(head for head in surveys["training"].heads if head)
    for what, seen in surveys.items():
        for head in seen.heads:
            if bool(head) != bool(heads) or (head and head not in heads):
                told = ", ".join(heads) or "no heads"
                raise OptionError(
                    f"The {what} files belong to {f'the head {head}' if head else 'no head'}, and those that "
                    f"are trained on to {told}: write the same heads before both."
                )
    return heads


def with_heads(shape: Mapping[str, Any], heads: Sequence[str], family: str) -> dict[str, Any]:
    """Hyperparameters of a fresh model that has these heads.

    Raises:
        OptionError: A configuration whose own heads are others.
    """
    own = shape.get("heads")
    if own is not None and list(own) != list(heads or own):
        raise OptionError(
            f"The configuration gives {family} the heads {', '.join(own)}, and the files name "
            f"{', '.join(heads)}: write the same, or none in the configuration."
        )
    if not heads:
        return dict(shape)
    return {**shape, "heads": list(heads), "head": heads[0] if len(heads) == 1 else None}


def grown(model: Potential, heads: Sequence[str]) -> tuple[Potential, list[str]]:
    """The model with all of these heads, and which of them are new: copies of the one that answered.

    It answers by the only one that is trained, or by none if there are several.

    Raises:
        OptionError: Nobody said which head a new one starts from.
        ModelError: A model that cannot have more heads.
    """
    if not heads:
        return model, []
    start, new = model.head, [head for head in heads if head not in model.heads]
    if new and model.heads and start is None:
        raise OptionError(
            f"{model.info.name} has no head {new[0]}, and nobody said which one it starts from: write the "
            f"model as MODEL@HEAD, with one of {', '.join(model.heads)}."
        )
    for head in new:
        model = (model.with_head(start) if start is not None else model).with_new_head(head)
    return model.with_head(heads[0] if len(heads) == 1 else None), new


def head_weights(texts: Sequence[str], counts: Mapping[str, int]) -> dict[str, float]:
    """Factor on the weight of each head's structures, so that the heads count in the proportions asked for.

    Args:
        texts: ``HEAD=SHARE``, one for each head; none leaves it to the numbers of structures.
        counts: Structures of each head.

    Raises:
        OptionError: Not HEAD=NUMBER, or not all heads that are trained.
    """
    from atomml.workflows.trainings.training_settings import parse_weights

    shares = parse_weights(texts, "head_shares", "HEAD=SHARE, such as water=2")
    if not shares:
        return {}
    heads = {head for head in counts if head}
    if not heads:
        raise OptionError(
            "head_shares names heads, and the files name none: write HEAD=FILE, or leave it out."
        )
    if set(shares) != heads or not all(shares.values()):
        raise OptionError(
            f"head_shares names {', '.join(sorted(shares))}: give each of {', '.join(sorted(heads))} "
            "heads a share above zero."
        )
    whole, structures = sum(shares.values()), sum(counts.values())
    return {head: share / whole * structures / counts[head] for head, share in shares.items()}
