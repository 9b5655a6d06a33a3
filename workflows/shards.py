"""Shards of a run: a folder each within the run's own, and what they have done taken over.

A job array runs one command many times, each with ``--shard i/N``. A shard has its manifest and its table
in ``shard-i-of-N/``; the folder around them holds the configuration that all of them share. A later call
without a shard takes over what they have done, if it was computed from the same input in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from atomml import __version__
from atomml.errors import OptionError
from atomml.files import write_atomic
from atomml.jobs import Outcome
from atomml.manifest import DONE, FAILED, Manifest, Shard, read_manifest
from atomml.run import plain
from atomml.run_checks import CONFIG, check_same

__all__ = ["MANIFEST", "adopt_shards", "recorded_outcomes", "shard_folder", "shard_named"]

MANIFEST = "manifest.sqlite"
"""Name of the manifest in a run folder, and in that of a shard."""

_WAITING = "No shard has done it yet."


def shard_named(text: str | None, merge: bool) -> Shard | None:
    """The shard that ``--shard`` asks for, if it does.

    Raises:
        OptionError: It is written wrongly, or shards are to be both done and gathered.
    """
    if text is None:
        return None
    if merge:
        raise OptionError("--merge gathers shards and --shard is one of them: give one of the two.")
    return Shard.parse(text)


def shard_folder(
    out: str | Path | None,
    command: str,
    shard: Shard | None,
    config: Mapping[str, Any],
    may_change: Collection[str],
) -> str | Path | None:
    """The folder of this run: ``out``, or that of the shard in it.

    Args:
        out: As it was asked for.
        command: Name of the command.
        shard: The part that is done here.
        config: Configuration of the shard; that of all of them is the same but for ``shard``.
        may_change: What may differ between shards.

    Raises:
        OptionError: Shards of another configuration lie there.
    """
    if out is None or shard is None:
        return out
    parent = Path(out)
    shared = plain(config) | {"shard": None}
    if (parent / CONFIG).exists():
        check_same(parent, command, shared, may_change)
    else:
        import yaml

        parent.mkdir(parents=True, exist_ok=True)
        header = {"command": command, "version": __version__}
        write_atomic(parent / CONFIG, yaml.safe_dump({**header, **shared}, sort_keys=False))
    return parent / f"shard-{shard.index}-of-{shard.count}"


def _as_it_is(result: Any, shard: str) -> Any:
    return result


def adopt_shards(
    folder: Path,
    manifest: Manifest,
    wanted: Mapping[str, str],
    moved: Callable[[Any, str], Any] = _as_it_is,
) -> None:
    """Write into a manifest what shards have done, and what failed there.

    Args:
        folder: The run folder around those of the shards.
        manifest: Its manifest; what it has done already stays.
        wanted: For each item, the digest of what its result depends on; nothing else is taken.
        moved: A result as it reads from ``folder``, from the result and the name of the shard's folder.
    """
    for path in sorted(folder.glob(f"shard-*-of-*/{MANIFEST}")):
        for row in read_manifest(path):
            ours = manifest.find(row.id)
            known = ours is not None and ours.digest == row.digest and ours.status == DONE
            if known or wanted.get(row.id) != row.digest or row.status not in (DONE, FAILED):
                continue
            manifest.start(row.id, row.digest)
            if row.status == DONE:
                manifest.finish(row.id, moved(row.result, path.parent.name))
            else:
                manifest.fail(row.id, row.error or "")


def recorded_outcomes(manifest: Manifest, wanted: Mapping[str, str]) -> dict[str, Outcome]:
    """What a manifest holds of the items; for what it does not, a sentence and no attempt.

    Args:
        manifest: Of the run.
        wanted: For each item, the digest of what its result depends on; what has another one does not count.
    """
    found = {}
    for item, digest in wanted.items():
        row = manifest.find(item)
        if row is None or row.digest != digest or row.status not in (DONE, FAILED):
            found[item] = Outcome(item, None, _WAITING, 0, kept=False)
        else:
            found[item] = Outcome(item, row.result, row.error, row.attempt, kept=True)
    return found
