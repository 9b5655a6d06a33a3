"""Is a labelled data set what it says it is? Statistics, and the traps that such files are known for."""

from __future__ import annotations

from atomml.data.audit.audit import Audit, audit
from atomml.data.audit.finding import ERROR, NOTE, WARNING, Finding, Trap

__all__ = ["ERROR", "NOTE", "WARNING", "Audit", "Finding", "Trap", "audit"]
