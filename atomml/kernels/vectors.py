"""Whole vectors of the machine inside compiled loops, emitted as LLVM's instructions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from atomml.kernels.gemm import VECTOR_BYTES

__all__ = ["Vectors", "vector_lanes"]

_LOG2E = 1.4426950408889634


@intrinsic
def vector_lanes(typingctx: Any, array: Any) -> Any:
    """Numbers of an array that make a vector."""
    lanes = VECTOR_BYTES // (4 if array.dtype == types.float32 else 8)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """A constant."""
        return ir.IntType(64)(lanes)

    return types.intp(array), emit


class Vectors:
    """Instructions on vectors of one floating-point type.

    Args:
        context: numba's, of the function that is compiled.
        builder: llvmlite's, where instructions go.
        dtype: numba's type of the numbers.
    """

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.context, self.builder = context, builder
        self.single = dtype == types.float32
        self.size = 4 if self.single else 8
        self.lanes = VECTOR_BYTES // self.size
        self.number = ir.FloatType() if self.single else ir.DoubleType()
        self.type = ir.VectorType(self.number, self.lanes)
        self.whole = ir.VectorType(ir.IntType(8 * self.size), self.lanes)

    def pointer(self, array_type: Any, array: Any, index: Any) -> Any:
        """To the numbers of a contiguous array from a place on, counted in memory's order."""
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.bitcast(self.builder.gep(data, [index]), self.type.as_pointer())

    def load(self, pointer: Any) -> Any:
        """A vector."""
        return self.builder.load(pointer, align=self.size)

    def store(self, vector: Any, pointer: Any) -> None:
        """Write it."""
        self.builder.store(vector, pointer, align=self.size)

    def constant(self, number: float) -> Any:
        """A vector of one number."""
        exact = float(np.float32(number)) if self.single else float(number)
        return ir.Constant(self.type, [ir.Constant(self.number, exact)] * self.lanes)

    def spread(self, number: Any) -> Any:
        """A vector of a number that is known only when the code runs."""
        unset = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(unset, number, ir.IntType(32)(0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, unset, lanes)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``."""
        return self._call("fmuladd", a, b, c)

    def exponential(self, x: Any) -> Any:
        """``exp(x)`` of each, clipped to the normal range.

        The series is that of :func:`~atomml.kernels.activations.exponential`, summed in pairs, so that fewer
        operations wait for each other.
        """
        builder, constant = self.builder, self.constant
        limit, n_terms = (87.0, 8) if self.single else (700.0, 14)
        high, low = (
            (0.693359375, -2.12194440e-4)
            if self.single
            else (6.93147180369123816490e-01, 1.90821492927058770002e-10)
        )
        for bound, order in ((constant(limit), "<"), (constant(-limit), ">")):
            x = builder.select(builder.fcmp_ordered(order, x, bound), x, bound)
        n = self._call("floor", self.multiply_add(x, constant(_LOG2E), constant(0.5)))
        r = self.multiply_add(n, constant(-high), x)
        r = self.multiply_add(n, constant(-low), r)
        terms = [constant(1 / math.factorial(k)) for k in range(n_terms)]
        power = r
        while len(terms) > 1:
            pairs = [self.multiply_add(power, b, a) for a, b in zip(terms[::2], terms[1::2], strict=False)]
            terms = [*pairs, *terms[2 * len(pairs) :]]
            power = builder.fmul(power, power)
        bias, shift = (127, 23) if self.single else (1023, 52)
        exponent = builder.fptosi(n, self.whole)
        width = ir.IntType(8 * self.size)
        bits = builder.shl(
            builder.add(exponent, ir.Constant(self.whole, [width(bias)] * self.lanes)),
            ir.Constant(self.whole, [width(shift)] * self.lanes),
        )
        return builder.fmul(terms[0], builder.bitcast(bits, self.type))

    def _call(self, name: str, *arguments: Any) -> Any:
        """One of LLVM's own functions."""
        module = self.builder.module
        full = f"llvm.{name}.v{self.lanes}f{8 * self.size}"
        kind = ir.FunctionType(self.type, [self.type] * len(arguments))
        return self.builder.call(module.globals.get(full) or ir.Function(module, kind, full), arguments)
