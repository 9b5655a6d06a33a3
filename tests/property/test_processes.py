"""Several processes train as one: batch statistics, dropout and trees among them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atomml.checkpoint import load_checkpoint
from atomml.nn.batch_norm import BatchNorm
from atomml.nn.seeded_dropout import SeededDropout


class Meeting:
    """Sums what threads bring, as processes do."""

    def __init__(self, n: int) -> None:
        self.barrier = threading.Barrier(n, timeout=30)
        self.brought: list[Tensor | None] = [None] * n

    def sum_for(self, rank: int) -> Any:
        """What the thread of this rank calls."""

        def total(values: Tensor) -> Tensor:
            """The sum, once all are here."""
            self.brought[rank] = values
            self.barrier.wait()
            found = torch.stack([one for one in self.brought if one is not None]).sum(0)
            self.barrier.wait()
            return found

        return total


@pytest.mark.parametrize("shares", [(3, 5), (8, 0), (1, 7)])
@pytest.mark.parametrize("weighted", [False, True])
def test_batch_statistics_are_those_of_all_shares(shares: tuple[int, int], weighted: bool) -> None:
    """Values, gradients of rows and weights, and running statistics; float64, so sums agree to 1e-12."""
    torch.manual_seed(0)
    x, probe = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    times = torch.rand(8, dtype=torch.float64) + 0.5 if weighted else None

    def run(norm: BatchNorm, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        given = x[rows].clone().requires_grad_(True)
        out = norm(given, None if times is None else times[rows])
        loss = (out.pow(3) * probe[rows]).sum()
        slopes = torch.autograd.grad(loss, [given, norm.weight])
        return out.detach(), slopes[0], slopes[1]

    def fresh() -> BatchNorm:
        norm = BatchNorm(3).double()
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        return norm

    alone = fresh()
    wanted = run(alone, slice(0, 8))
    meeting, found, norms = Meeting(2), {}, [fresh(), fresh()]

    def work(rank: int) -> None:
        norms[rank].sum_over_processes = meeting.sum_for(rank)
        found[rank] = run(norms[rank], slice(0, shares[0]) if rank == 0 else slice(shares[0], 8))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for place in (0, 1):
        torch.testing.assert_close(torch.cat([found[0][place], found[1][place]]), wanted[place])
    torch.testing.assert_close(found[0][2] + found[1][2], wanted[2])
    for norm in norms:
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(norm.state_dict()[name], value)


@pytest.mark.parametrize("rows", [8, 7, 1])
def test_dropout_leaves_out_what_one_process_would(rows: int) -> None:
    x = torch.ones(rows, 5)
    whole, parts = SeededDropout(0.4), [SeededDropout(0.4), SeededDropout(0.4)]
    for rank, part in enumerate(parts):
        part.share_rows(rank, 2)
    for step in (0, 1):
        for one in (whole, *parts):
            one.begin_step(step, seed=3)
        for _ in range(3):  # draw after draw of a step
            wanted = whole(x)
            for rank, part in enumerate(parts):
                torch.testing.assert_close(part(x[rank::2]), wanted[rank::2], rtol=0, atol=0)
    assert 0.2 < float((whole(torch.ones(500, 5)) == 0).double().mean()) < 0.6


@pytest.mark.slow
def test_two_processes_train_properties_as_one(crystals: Path, tmp_path: Path) -> None:
    """Torchrun with gloo: losses, weights and answers of one process, to the rounding of float64 sums.

    56 training structures in batches of 11: the last one of an epoch has a single structure, so one process
    has none, and takes part in the batch statistics of the other all the same. CGCNN has dropout because of
    the classes.
    """
    script = tmp_path / "both.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from labelled_crystals import SHAPE\n"
        "from atomml.workflows.properties.property_training import train_property\n"
        f"train_property([{str(crystals)!r}], target='gap,kind', classes='kind', shape=SHAPE, epochs=3,\n"
        "    family='cgcnn,alignn,fcnn,xgboost', batch_size=11, precision='float64', rounds=60,\n"
        "    valid_fraction=0.15, device='cpu', out=sys.argv[1])\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29741"]
    for name, how in (("one", []), ("two", launcher)):
        words = [sys.executable, *how, str(script), str(tmp_path / name)]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env=environment, timeout=900
        )
        assert done.returncode == 0, done.stderr[-3000:]
    for member in range(3):
        logs = []
        for name in ("one", "two"):
            with (tmp_path / name / f"member-{member}/log.csv").open(newline="") as stream:
                logs.append([[float(c or "nan") for c in row.values()] for row in csv.DictReader(stream)])
        np.testing.assert_allclose(logs[0], logs[1], rtol=1e-7)
    trees = [(tmp_path / name / "member-3/log.csv").read_text() for name in ("one", "two")]
    assert trees[0] == trees[1]
    answers = []
    for name in ("one", "two"):
        with (tmp_path / name / "parity.csv").open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["target"] == "gap"]
        answers.append([float(row["prediction"]) for row in rows])
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)
    one, other = (load_checkpoint(tmp_path / name / "model.safetensors").tensors for name in ("one", "two"))
    for key, tensor in one.items():
        if tensor.is_floating_point():
            np.testing.assert_allclose(tensor.numpy(), other[key].numpy(), rtol=2e-4, atol=1e-5)
