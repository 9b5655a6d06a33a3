"""Rows of a table chosen by an expression and put in order; parsed here, nothing is ever evaluated as code.

``bulk_modulus > 100 and not (formula == "NaCl" or "O" in formula)``: Python's own grammar, of which the
words ``and or not in``, comparisons, ``+ - * /``, numbers, texts and names of columns are understood. A
column may be named without its unit. Where a row has no value, no comparison with it holds.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from atomml.config import close_match
from atomml.errors import OptionError
from atomml.result import UNIT_SUFFIXES

__all__ = ["RowFilter", "column_named", "sorted_rows"]

Row = Mapping[str, Any]
AnyRow = TypeVar("AnyRow", bound=Row)
Value = Callable[[Row], Any]

_LONGEST = 1000
_ORDER: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda part, whole: part in whole,
    ast.NotIn: lambda part, whole: part not in whole,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def column_named(name: str, columns: Sequence[str]) -> str:
    """The column of this name, or the one that it names without its unit.

    Raises:
        OptionError: There is none, or several.
    """
    if name in columns:
        return name
    fitting = [column for column in columns if column in {f"{name}_{unit}" for unit in UNIT_SUFFIXES}]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise OptionError(f"The column {name!r} may be {' or '.join(fitting)}: name it in full.")
    hint = close_match(name, columns, f"there are {', '.join(columns)}.")
    raise OptionError(f"There is no column {name!r}; {hint}")


class RowFilter:
    """An expression, read once and asked of many rows.

    Args:
        expression: Such as ``bulk_modulus > 100 and converged``.
        columns: The columns of the table; None reads the expression before there is one.

    Raises:
        OptionError: It is no such expression, or names a column that there is not.
    """

    def __init__(self, expression: str, columns: Sequence[str] | None = None) -> None:
        self.expression, self.columns = expression, columns
        if len(expression) > _LONGEST:
            raise self._wrong(f"it is longer than {_LONGEST} characters")
        try:
            tree = ast.parse(expression.strip(), mode="eval")
            self._holds = self._read(tree.body)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._wrong("this is not understood") from error

    def __call__(self, row: Row) -> bool:
        """Whether the expression holds for a row."""
        return bool(self._holds(row))

    def _read(self, node: ast.expr) -> Value:
        if isinstance(node, ast.BoolOp):
            parts = [self._read(value) for value in node.values]
            every = isinstance(node.op, ast.And)
            return lambda row: all(p(row) for p in parts) if every else any(p(row) for p in parts)
        if isinstance(node, ast.UnaryOp):
            return self._sign(node)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _of_two(_ARITHMETIC[type(node.op)], self._read(node.left), self._read(node.right))
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
            constant = node.value
            return lambda _: constant
        if isinstance(node, ast.Name):
            name = node.id if self.columns is None else column_named(node.id, self.columns)
            return lambda row: row.get(name)
        what = ast.unparse(node) if not isinstance(node, ast.BinOp) else type(node.op).__name__
        raise self._wrong(f"{what[:60]!r} is not understood")

    def _sign(self, node: ast.UnaryOp) -> Value:
        inner = self._read(node.operand)
        if isinstance(node.op, ast.Not):
            return lambda row: not inner(row)
        if isinstance(node.op, ast.USub):
            return _of_two(operator.mul, inner, lambda _: -1)
        raise self._wrong(f"{type(node.op).__name__} is not understood")

    def _comparison(self, node: ast.Compare) -> Value:
        values = [self._read(value) for value in (node.left, *node.comparators)]
        pairs = []
        for sign, left, right in zip(node.ops, values, values[1:], strict=False):
            if type(sign) not in _ORDER:
                raise self._wrong(f"{type(sign).__name__} is not understood")
            pairs.append(_of_two(_ORDER[type(sign)], left, right))
        return lambda row: all(pair(row) for pair in pairs)

    def _wrong(self, why: str) -> OptionError:
        shown = self.expression if len(self.expression) <= 60 else self.expression[:57] + "..."
        return OptionError(
            f"The condition '{shown}' cannot be read: {why}; "
            "write it as in 'bulk_modulus > 100 and converged'."
        )


def _of_two(act: Callable[[Any, Any], Any], left: Value, right: Value) -> Value:
    """An operation that gives None where a value is missing or of the wrong kind."""

    def found(row: Row) -> Any:
        """The value for a row."""
        a, b = left(row), right(row)
        if a is None or b is None:
            return None
        try:
            return act(a, b)
        except (TypeError, ArithmeticError):
            return None

    return found


def sorted_rows(rows: Sequence[AnyRow], column: str, descending: bool) -> list[AnyRow]:
    """Rows by a column, numbers before texts; those without a value come last either way."""

    def key(row: AnyRow) -> tuple[bool, Any]:
        """Numbers below texts."""
        value = row[column]
        return (isinstance(value, str), value)

    present = [row for row in rows if row.get(column) is not None]
    missing = [row for row in rows if row.get(column) is None]
    return [*sorted(present, key=key, reverse=descending), *missing]
