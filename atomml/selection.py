"""Atoms chosen by an expression: ``z < 5 and symbol == O``; parsed here, nothing is ever evaluated as code.

    expression = conjunction, { "or", conjunction } ;
    conjunction = factor, { "and", factor } ;
    factor = "not", factor | "(", expression, ")" | "all" | "none" | comparison ;
    comparison = name, operator, value, { ",", value } ;

The names are ``x``, ``y``, ``z`` (Å), ``index`` and ``symbol``; the operators ``< <= > >= == = !=``.
``==`` with several values means any of them: ``symbol==Li,O``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from atomml.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

__all__ = ["check_selection", "select"]

_TOKEN = re.compile(
    r"\s*(?:(?P<operator><=|>=|==|!=|<|>|=)|(?P<mark>[(),])"
    r"|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<word>[A-Za-z]+))"
)
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_AXES = {"x": 0, "y": 1, "z": 2}
_DEEPEST = 50


def select(atoms: Atoms, expression: str) -> Mask:
    """The atoms for which the expression holds, ``(n_atoms,)`` bool.

    Args:
        atoms: The structure; positions as they are, not wrapped into the cell.
        expression: Such as ``z<5``, ``symbol==Li,Na and not index<10``.

    Raises:
        OptionError: The expression is not one; says at which character.
    """
    return _Parser(expression).mask(atoms)


def check_selection(expression: str) -> None:
    """Refuse an expression that is not one, before any structure is at hand.

    Raises:
        OptionError: As :func:`select`.
    """
    from ase import Atoms

    _Parser(expression).mask(Atoms("H"))


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = self._split()
        self.place = 0
        self.depth = 0

    def mask(self, atoms: Atoms) -> Mask:
        """The atoms that the whole expression names."""
        self.atoms = atoms
        found = self._any_of()
        if self.place < len(self.tokens):
            self._fail("and, or, or the end was expected")
        return found

    def _split(self) -> list[tuple[str, str, int]]:
        tokens = []
        place, end = 0, len(self.expression.rstrip())
        while place < end:
            match = _TOKEN.match(self.expression, place)
            if match is None:
                raise OptionError(self._message(place, "this is not understood"))
            kind = str(match.lastgroup)
            tokens.append((kind, match[kind], match.start(kind)))
            place = match.end()
        return tokens

    def _any_of(self) -> Mask:
        found = self._all_of()
        while self._take_word("or"):
            found = found | self._all_of()
        return found

    def _all_of(self) -> Mask:
        found = self._factor()
        while self._take_word("and"):
            found = found & self._factor()
        return found

    def _factor(self) -> Mask:
        import numpy as np

        self.depth += 1
        if self.depth > _DEEPEST:
            self._fail("the expression is nested too deeply")
        if self._take_word("not"):
            found = ~self._factor()
        elif self._take("mark", "("):
            found = self._any_of()
            if not self._take("mark", ")"):
                self._fail("a closing parenthesis was expected")
        elif self._take_word("all"):
            found = np.ones(len(self.atoms), dtype=bool)
        elif self._take_word("none"):
            found = np.zeros(len(self.atoms), dtype=bool)
        else:
            found = self._comparison()
        self.depth -= 1
        return found

    def _comparison(self) -> Mask:
        import numpy as np

        name = self._next("word", "x, y, z, index or symbol was expected")
        sign = self._next("operator", "one of < <= > >= == != was expected")
        if name == "symbol":
            values: list[Any] = self._symbols()
            column: NDArray[Any] = np.array(self.atoms.get_chemical_symbols())
        elif name in _AXES or name == "index":
            values = self._numbers()
            column = np.arange(len(self.atoms)) if name == "index" else self.atoms.positions[:, _AXES[name]]
        else:
            self._fail("the names are x, y, z, index and symbol", back=2)
        if sign in _ORDER:
            if len(values) > 1 or name == "symbol":
                self._fail("this comparison takes one number", back=1)
            return np.asarray(_ORDER[sign](column, values[0]), dtype=bool)
        equal = np.isin(column, values)
        return ~equal if sign == "!=" else equal

    def _numbers(self) -> list[float]:
        values = [float(self._next("number", "a number was expected"))]
        while self._take("mark", ","):
            values.append(float(self._next("number", "a number was expected")))
        return values

    def _symbols(self) -> list[str]:
        from ase.data import chemical_symbols

        values = []
        while True:
            symbol = self._next("word", "the symbol of an element was expected")
            if symbol not in chemical_symbols[1:]:
                self._fail("the symbol of an element was expected", back=1)
            values.append(symbol)
            if not self._take("mark", ","):
                return values

    def _peek(self) -> tuple[str, str, int]:
        end = ("end", "", len(self.expression))
        return self.tokens[self.place] if self.place < len(self.tokens) else end

    def _take(self, kind: str, text: str) -> bool:
        found = self._peek()[:2] == (kind, text)
        self.place += found
        return found

    def _take_word(self, word: str) -> bool:
        return self._take("word", word)

    def _next(self, kind: str, expected: str) -> str:
        found = self._peek()
        if found[0] != kind:
            self._fail(expected)
        self.place += 1
        return found[1]

    def _fail(self, why: str, back: int = 0) -> NoReturn:
        self.place = max(0, self.place - back)
        raise OptionError(self._message(self._peek()[2], why))

    def _message(self, place: int, why: str) -> str:
        shown = self.expression if len(self.expression) <= 60 else self.expression[:57] + "..."
        at = f"The selection '{shown}' cannot be read at character {place + 1}"
        return f"{at}: {why}, as in 'z<5 and symbol==O'."
