"""What every refusal looks like: a typed error, one sentence, exit code 2."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from atomml.errors import AtomMLError

Refusal = Callable[..., str]


@pytest.fixture
def refused() -> Refusal:
    """``refused(call, *words)``: the sentence with which ``call`` is refused; it holds the words."""

    def check(call: Callable[[], Any], *words: str) -> str:
        with pytest.raises(AtomMLError) as caught:
            call()
        sentence = str(caught.value)
        assert caught.value.exit_code == 2
        assert sentence.endswith("."), sentence
        assert "\n" not in sentence
        assert len(sentence) < 600, sentence
        assert not re.search(r"[.!?] [A-Z]", sentence), f"more than one sentence: {sentence}"
        for word in words:
            assert word in sentence, f"{word!r} is not in: {sentence}"
        return sentence

    return check
