"""A model that answers i-PI: ``atomml serve`` and :func:`serve`; ASE's socket client underneath."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.errors import OptionError, RunFailedError, StructureError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.run import RunFolder
from atomml.workflows.inputs import DEFAULT_MODEL, GivenModel, GivenStructure

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["ServeOptions", "ServeResult", "serve"]

_EVENT_INTERVAL_S = 1.0
_RETRY_S = 0.2


@dataclass(frozen=True)
class ServeOptions:
    """Options of ``serve``."""

    ipi: str = option("", "where the server listens: unix:NAME or HOST:PORT", metavar="ADDRESS")
    wait: float = option(30.0, "how long to wait for a server that does not listen yet", unit="s", minimum=0)
    timeout: float | None = option(
        None, "silence after which the server is given up; else never", unit="s", above=0
    )
    end: str = option(
        "exit",
        "what ends the work: the server's EXIT, as i-PI sends it, or any closed connection, as ASE leaves it",
        choices=("exit", "close"),
    )
    dtype: str = option("float32", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class ServeResult(Result):
    """What ``serve`` returns.

    Attributes:
        formula: Of the atoms.
        address: Of the server.
        n_evaluations: Structures that were answered for.
        model_time: Spent in the model, s.
        waiting_time: Spent waiting for the server, s.
        last_energy: eV, of the last answer.
    """

    formula: str = ""
    address: str = ""
    n_evaluations: int = 0
    model_time: float = quantity("s", default=0.0)
    waiting_time: float = quantity("s", default=0.0)
    last_energy: float | None = quantity("eV", default=None)


def serve(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: ServeOptions | None = None,
    **overrides: Any,
) -> ServeResult:
    """Answer the structures that i-PI sends with energy, forces and virial, until it says EXIT.

    V. Kapil et al., Comput. Phys. Commun. 236, 214 (2019). Several processes may serve one i-PI, each a bead.

    Args:
        structure: The atoms in i-PI's order, in any form; positions and cell come from the server.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted; nothing of it is needed.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`ServeOptions`, over those of ``options``.

    Raises:
        InputError: A structure, model, address or option that is wrong.
        RunFailedError: No server listens, or the connection was lost before the server said EXIT.
    """
    from atomml.workflows.inputs import check_covered, given_model, given_structure
    from atomml.workflows.run_record import RunRequest

    chosen = build_options(ServeOptions, (as_config(options) if options else {}) | overrides)
    place = _place(chosen.ipi)
    used = given_model(model, dtype=chosen.dtype, device=device)
    given = given_structure(structure)
    warnings: list[str] = []
    check_covered(given, used, warnings.append, chosen.allow_charge_mismatch)
    source = str(structure) if isinstance(structure, str | Path) else given.label
    request = RunRequest(out, resume, overwrite, device, seed)
    facts = {"structure": source, **used.config()}
    free = ("ipi", "wait", "timeout", "end")
    with request.open("serve", chosen, may_change=free, warnings=warnings, **facts) as folder:
        return _Service(folder, given, used, chosen).go(place)


def _place(address: str) -> tuple[str, int]:
    """Host and port of an address, or the name of a socket and 0.

    Raises:
        OptionError: It is no address.
    """
    kind, colon, rest = address.rpartition(":")
    if kind == "unix" and rest and "/" not in rest:
        return rest, 0
    if colon and kind and kind != "unix" and rest.isdecimal() and 0 < int(rest) < 65536:
        return kind, int(rest)
    raise OptionError(
        f"ipi is {address!r}: give --ipi unix:NAME (i-PI's <ffsocket mode='unix'><address>NAME) or --ipi "
        "HOST:PORT."
    )


class _Service:
    """One connection: the atoms that are moved, the answers, and what is written of them."""

    def __init__(
        self, folder: RunFolder, given: GivenStructure, model: GivenModel, options: ServeOptions
    ) -> None:
        self.folder, self.given, self.model, self.options = folder, given, model, options
        self.atoms: Atoms = given.atoms.copy()
        self.atoms.set_constraint()
        self.atoms.calc = model.calculator()
        self.result = ServeResult(formula=str(self.atoms.get_chemical_formula()), address=options.ipi)

    def go(self, place: tuple[str, int]) -> ServeResult:
        """Connect, answer until the server ends, write the summary.

        Raises:
            RunFailedError: No server, or a lost one; the summary is then written and marked.
        """
        from atomml.workflows.run_record import finish_run

        started = time.perf_counter()
        client = self._connect(place)
        ended = False
        try:
            with self._one_sentence():
                ended = self._answer(client)
        finally:
            client.close()
            result, seconds = self.result, time.perf_counter() - started
            result.converged = ended
            result.waiting_time = max(seconds - result.model_time, 0.0)
            finish_run(
                self.folder, result, model=self.model.record(), inputs=[self.given.record()], seconds=seconds
            )
        return result

    def _connect(self, place: tuple[str, int]) -> Any:
        """ASE's client, once the server listens."""
        deadline = time.monotonic() + self.options.wait
        while True:
            try:
                connection = _connected(*place)
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise RunFailedError(
                        f"No server listens at {self.options.ipi} ({error.strerror or error}): start i-PI "
                        "first, with this address in its <ffsocket>."
                    ) from error
                time.sleep(_RETRY_S)
                continue
            connection.settimeout(self.options.timeout)
            self.folder.event("connected", address=self.options.ipi)
            return _client(connection, self.given)

    def _answer(self, client: Any) -> bool:
        """Answer until the connection ends; returns whether it ended as it should."""
        calculator = self.atoms.calc
        with_stress = bool(self.atoms.pbc.all()) and "stress" in calculator.implemented_properties
        if not with_stress and self.atoms.pbc.any():
            self.folder.warn(f"{self.model.source} gives no stress: the virial that is sent is zero.")
        client.calculate = self._timed(client.calculate)
        said = 0.0
        for _ in client.irun(self.atoms, use_stress=with_stress):
            self.result.n_evaluations += 1
            self.result.last_energy = float(self.atoms.get_potential_energy())
            if time.monotonic() - said >= _EVENT_INTERVAL_S:
                said = time.monotonic()
                n, energy = self.result.n_evaluations, self.result.last_energy
                self.folder.event("answered", step=n, energy_eV=energy)
        if client.protocol.closed and self.options.end == "exit":
            raise ConnectionError("it closed the connection without EXIT")
        return True

    def _timed(self, calculate: Any) -> Any:
        """ASE's evaluation with a clock."""

        def timed(atoms: Atoms, use_stress: bool) -> Any:
            """The same answer; its seconds are kept."""
            before = time.perf_counter()
            answer = calculate(atoms, use_stress)
            self.result.model_time += time.perf_counter() - before
            return answer

        return timed

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """What a lost or confused server does to ASE's client, as one sentence."""
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error) or "the connection was closed"
            raise RunFailedError(
                f"The server at {self.options.ipi} was lost after {self.result.n_evaluations} evaluations "
                f"({why}): see its output, and start both again."
            ) from error
        except (AssertionError, KeyError, UnicodeDecodeError) as error:
            what = " ".join(map(str, error.args)) or "numbers that are not finite"
            raise RunFailedError(
                f"The server at {self.options.ipi} sent what i-PI's protocol does not know ({what}): check "
                "that it speaks that protocol, and its own output."
            ) from error


def _connected(host: str, port: int) -> socket.socket:
    """A connection to a server; without a port ``host`` is the name of a socket as i-PI names it."""
    from ase.calculators.socketio import actualunixsocketname

    if port:
        return socket.create_connection((host, port))
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(actualunixsocketname(host))
    except BaseException:
        connection.close()
        raise
    return connection


def _client(connection: socket.socket, given: GivenStructure) -> Any:
    """ASE's client on a connection, with a protocol that remembers a lost one and counts the atoms."""
    from ase.calculators.socketio import IPIProtocol, SocketClient, SocketClosed
    from ase.parallel import world

    class Protocol(IPIProtocol):  # type: ignore[misc]
        """The protocol of one connection; ``closed`` if the server went without EXIT."""

        closed = False

        def recvmsg(self) -> str:
            """The next message; a connection that is closed is remembered."""
            try:
                return str(super().recvmsg())
            except SocketClosed:
                self.closed = True
                raise

        def recvposdata(self) -> Any:
            """Cell, its inverse, and positions; as many as the structure has."""
            cell, inverse, positions = super().recvposdata()
            if len(positions) != len(given.atoms):
                raise StructureError(
                    f"The server sends {len(positions)} atoms and {given.label} has {len(given.atoms)}: give "
                    "the structure that i-PI runs, in its order."
                )
            return cell, inverse, positions

    class Client(SocketClient):  # type: ignore[misc]
        """ASE's client, whose own constructor leaves a socket open where nobody listens."""

        def __init__(self) -> None:
            self.comm, self.closed, self.state = world, False, "READY"
            self.bead_index, self.bead_initbytes = 0, b""
            self.protocol = Protocol(connection)
            self.log = self.protocol.log

    return Client()
