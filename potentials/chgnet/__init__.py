"""CHGNet: a charge-informed potential for inorganic crystals, with its published weights."""

from __future__ import annotations

from atomml.potentials.chgnet.model import CHGNet, CHGNetConfig
from atomml.potentials.chgnet.published import from_chgnet_state, load_published

__all__ = ["CHGNet", "CHGNetConfig", "from_chgnet_state", "load_published"]
