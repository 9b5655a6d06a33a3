"""``atomml convert PEER FILE --to M.safetensors``: a peer's weights as a checkpoint of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atomml.cli.parsing import Parser
from atomml.errors import OptionError

if TYPE_CHECKING:
    from atomml.base_model import Model

__all__ = ["run"]

_PEERS = ("chgnet", "mace", "deepmd", "cgcnn")


def run(name: str, argv: Sequence[str]) -> int:
    """Convert and return 0."""
    parser = Parser(
        "atomml convert", "Read a peer's weights, without running its code, and write them as ours."
    )
    parser.add_argument("peer", metavar="PEER", help=f"whose file it is: {', '.join(_PEERS)}")
    parser.add_argument("file", metavar="FILE", help="a file, or for chgnet a published version (0.3.0)")
    parser.add_argument("--to", metavar="M.safetensors", help="what to write")
    parser.add_argument("--head", metavar="NAME", help="which head or branch of a file with several answers")
    parser.add_argument("--elements", metavar="FILE", help="for cgcnn: its atom_init.json")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--quiet", action="store_true", help="say nothing")
    parser.add_argument("--debug", action="store_true", help="show where an error was raised")
    found = parser.parse(argv)
    if found.peer not in _PEERS:
        raise OptionError(
            f"Files of {found.peer!r} cannot be converted: this release knows {', '.join(_PEERS)}."
        )
    if not found.to or not found.to.endswith(".safetensors"):
        raise OptionError("Say what to write with --to NAME.safetensors.")
    target = Path(found.to)
    if target.exists() and not found.overwrite:
        raise OptionError(f"{target} exists: give another --to, or --overwrite to replace it.")
    from atomml.checkpoint import save_model
    from atomml.cli.display import say

    model = _read(found.peer, found.file, found.head, found.elements)
    digest = save_model(model, target, {"converted_from": f"{found.peer} {Path(found.file).name}"})
    if not found.quiet:
        say(f"{target} (sha256 {digest})")
    return 0


def _read(peer: str, file: str, head: str | None, elements: str | None) -> Model:
    """The model in a peer's file."""
    if (elements is None) == (peer == "cgcnn"):
        raise OptionError(
            "Name the inputs of elements that the network was trained with: --elements atom_init.json."
            if elements is None
            else f"Files of {peer} bring their elements: leave --elements out."
        )
    if peer == "mace":
        from atomml.potentials.mace.pickled import convert_mace

        return convert_mace(file, head)
    if peer == "deepmd":
        from atomml.potentials.dpa3.deepmd_files import convert_deepmd

        return convert_deepmd(file, head)
    if head is not None:
        raise OptionError(f"Files of {peer} have one head: leave --head out.")
    if peer == "cgcnn":
        from atomml.potentials.cgcnn.public_files import convert_cgcnn

        assert elements is not None
        return convert_cgcnn(file, elements)
    from atomml.potentials.chgnet import load_published

    return load_published(file)
