"""Which descriptors the trees of an ensemble lean on."""

from __future__ import annotations

from typing import Any

import numpy as np

from atomml.property.ensemble import PropertyEnsemble

__all__ = ["importance_rows"]

_MOST = 40


def importance_rows(ensemble: PropertyEnsemble) -> list[dict[str, Any]]:
    """Rows ``target, descriptor, share_of_gain``, the most important first, 40 for each target.

    The share is that of the descriptor's splits in what all splits gain, over the trees of all members that
    have trees; [] where no member has.
    """
    growers: list[Any] = [member for member in ensemble.members if hasattr(member, "importance")]
    if not growers:
        return []
    names = growers[0].describer.names()
    rows = []
    for k, target in enumerate(ensemble.targets):
        share = np.mean([member.importance(k) for member in growers], axis=0)
        for place in np.argsort(-share, kind="stable")[:_MOST]:
            if share[place] > 0:
                rows.append(
                    {"target": target.key, "descriptor": names[place], "share_of_gain": float(share[place])}
                )
    return rows
