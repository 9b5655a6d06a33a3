"""QHNet's public code (``OpenDFT/QHBench/QH9/models/QHNet.py`` of divelab/AIRS) in a process of its own.

Started by ``hamiltonian_speed.py`` with the path of that file, which is not part of this repository. Its two
compiled dependencies are replaced by functions of torch: what they compute here is a sum and a list of pairs.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import time
import types
from typing import Any

import torch


def main() -> None:
    """A line of JSON in: numbers, positions, repeats; a line out: seconds and peak memory."""
    path, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = load(path).QHNet().eval()
    model.set(torch.device("cpu"))
    n_weights = sum(p.numel() for p in model.parameters())
    for line in sys.stdin:
        given = json.loads(line)
        data = batch(given["molecules"])
        with torch.no_grad():
            started = time.perf_counter()
            for _ in range(given["repeats"]):
                model(data, keep_blocks=True)
            seconds = (time.perf_counter() - started) / given["repeats"]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(json.dumps({"seconds": seconds, "peak_MB": peak, "weights": n_weights}) + "\n")
        sys.stdout.flush()


def load(path: str) -> Any:
    """The module, with stand-ins for torch_scatter and torch_cluster."""
    scatter_module, cluster_module = types.ModuleType("torch_scatter"), types.ModuleType("torch_cluster")
    scatter_module.scatter = scatter  # type: ignore[attr-defined]
    cluster_module.radius_graph = radius_graph  # type: ignore[attr-defined]
    sys.modules["torch_scatter"], sys.modules["torch_cluster"] = scatter_module, cluster_module
    spec = importlib.util.spec_from_file_location("qhnet", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scatter(src: Any, index: Any, dim: int = 0, dim_size: int | None = None, **_: Any) -> Any:
    """Sum of rows by index."""
    size = int(index.max()) + 1 if dim_size is None else dim_size
    return src.new_zeros(size, *src.shape[1:]).index_add_(0, index, src)


def radius_graph(pos: Any, r: float, batch: Any, **_: Any) -> Any:
    """Ordered pairs of one molecule within a radius, by their first atom."""
    same = (batch[:, None] == batch[None, :]) & ~torch.eye(len(pos), dtype=torch.bool)
    near = torch.cdist(pos, pos) <= r
    centre, neighbour = torch.nonzero(same & near, as_tuple=True)
    return torch.stack([neighbour, centre])


def batch(molecules: list[dict[str, Any]]) -> Any:
    """What the model reads of a batch of torch_geometric."""
    sizes = [len(one["numbers"]) for one in molecules]
    pos = torch.tensor([p for one in molecules for p in one["positions"]], dtype=torch.float32)
    return types.SimpleNamespace(
        atoms=torch.tensor([[z] for one in molecules for z in one["numbers"]]),
        pos=pos * 1.8897261,
        batch=torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        ptr=torch.tensor([0, *torch.cumsum(torch.tensor(sizes), 0).tolist()]),
        num_nodes=len(pos),
    )


if __name__ == "__main__":
    main()
