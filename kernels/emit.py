"""Print the kernels as C++: the text that NVRTC compiles for the GPU and the host's compiler for the tests.

Strict on purpose: whatever lies outside the subset (see ``subset``) is refused with the line it stands on.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import get_type_hints

from . import loops, subset
from .target import Target

PRELUDE = """\
typedef double f64;
typedef long long i64;
template <class A, class B> struct pair { A first; B second; };
#ifdef __CUDA_ARCH__
#define DEVICE __device__
#define DEVICE_INLINE __device__ __forceinline__
DEVICE_INLINE i64 bits_of(f64 x) { return __double_as_longlong(x); }
DEVICE_INLINE f64 from_bits(i64 x) { return __longlong_as_double(x); }
DEVICE_INLINE i64 leading_zeros(i64 x) { return __clzll(x); }
#else
#define DEVICE static
#define DEVICE_INLINE static inline
DEVICE_INLINE i64 bits_of(f64 x) { i64 y; __builtin_memcpy(&y, &x, 8); return y; }
DEVICE_INLINE f64 from_bits(i64 x) { f64 y; __builtin_memcpy(&y, &x, 8); return y; }
DEVICE_INLINE i64 leading_zeros(i64 x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
DEVICE_INLINE f64 fma(f64 x, f64 y, f64 z) { return __builtin_fma(x, y, z); }
#endif
DEVICE_INLINE i64 quotient(i64 x, i64 y) { return x / y; }
DEVICE_INLINE i64 min_i64(i64 x, i64 y) { return x < y ? x : y; }
DEVICE_INLINE i64 max_i64(i64 x, i64 y) { return x > y ? x : y; }
"""

_TYPES = {
    float: "f64",
    int: "i64",
    bool: "bool",
    subset.f64s: "f64*",
    subset.i64s: "i64*",
    type(None): "void",
    tuple[int, int]: "pair<i64, i64>",
}
_BINARY = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
}
_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_UNARY = {ast.USub: "-", ast.Not: "!", ast.Invert: "~"}


class OutsideSubset(TypeError):
    """A kernel uses something that the subset does not have."""


def _type_name(annotation: object) -> str:
    if annotation in _TYPES:
        return _TYPES[annotation]  # type: ignore[index]
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        return annotation.__name__
    raise OutsideSubset(f"type {annotation!r}")


def _struct(cls: type) -> str:
    hints = get_type_hints(cls)
    return f"struct {cls.__name__} {{ " + " ".join(f"{_type_name(hints[name])} {name};" for name in hints) + " };\n"


class _Printer:
    """Prints one function."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.names = function.__globals__
        self.tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        self.hints = get_type_hints(function)
        self.scopes: list[set[str]] = []

    def refuse(self, node: ast.AST, why: str = "") -> OutsideSubset:
        line = getattr(node, "lineno", "?")
        what = f"{ast.unparse(node)!r} is outside the kernel subset{why and ': ' + why}"
        return OutsideSubset(f"{self.function.__name__}, line {line}: {what}")

    def signature(self) -> str:
        parameters = ", ".join(f"{_type_name(self.hints[arg.arg])} {arg.arg}" for arg in self.tree.args.args)  # type: ignore[attr-defined]
        return f"{_type_name(self.hints['return'])} {self.function.__name__}({parameters})"

    def text(self) -> str:
        self.scopes = [{arg.arg for arg in self.tree.args.args}]  # type: ignore[attr-defined]
        body = self.tree.body[1:] if ast.get_docstring(self.tree) else self.tree.body  # type: ignore[attr-defined, arg-type]
        qualifier = (
            "DEVICE"
            if self.function.__name__ in subset.CALLED or self.function.__name__ in subset.KERNELS
            else "DEVICE_INLINE"
        )
        return f"{qualifier} {self.signature()} {self.block(body, fresh=False)}\n"

    def known(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes)

    def block(self, statements: list[ast.stmt], fresh: bool = True, own: tuple[str, ...] = ()) -> str:
        if fresh:
            self.scopes.append(set(own))
        inner = "".join(self.statement(s) for s in statements)
        if fresh:
            self.scopes.pop()
        return "{\n" + textwrap.indent(inner, "  ") + "}"

    def assign(self, target: ast.expr, value: str) -> str:
        if isinstance(target, ast.Name):
            if self.known(target.id):
                return f"{target.id} = {value};\n"
            self.scopes[-1].add(target.id)
            return f"auto {target.id} = {value};\n"
        if isinstance(target, ast.Subscript) and not isinstance(target.slice, ast.Slice):
            return f"{self.expr(target)} = {value};\n"
        if isinstance(target, ast.Tuple) and len(target.elts) == 2:
            first, second = target.elts
            before = f"auto result_{target.lineno} = {value};\n"
            return (
                before
                + self.assign(first, f"result_{target.lineno}.first")
                + self.assign(second, f"result_{target.lineno}.second")
            )
        raise self.refuse(target)

    def statement(self, node: ast.stmt) -> str:
        match node:
            case ast.Assign(targets=[target], value=value):
                return self.assign(target, self.expr(value))
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None and not self.known(name):
                annotation = eval(ast.unparse(node.annotation), self.names)
                self.scopes[-1].add(name)
                return f"{_type_name(annotation)} {name} = {self.expr(value)};\n"
            case ast.Expr(value=ast.Call() as call):
                return self.expr(call) + ";\n"
            case ast.If(test=test, body=body, orelse=orelse):
                otherwise = f" else {self.block(orelse)}" if orelse else ""
                return f"if ({self.expr(test)}) {self.block(body)}{otherwise}\n"
            case ast.While(test=test, body=body, orelse=[]):
                return f"while ({self.expr(test)}) {self.block(body)}\n"
            case ast.For(
                target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=limits), body=body, orelse=[]
            ) if len(limits) <= 2:
                first, last = (["0"] * (2 - len(limits))) + [self.expr(limit) for limit in limits]
                return f"for (i64 {name} = {first}; {name} < {last}; {name}++) {self.block(body, own=(name,))}\n"
            case ast.Return(value=ast.Tuple(elts=[x, y])):
                return f"return {{{self.expr(x)}, {self.expr(y)}}};\n"
            case ast.Return(value=value) if value is not None:
                return f"return {self.expr(value)};\n"
        raise self.refuse(node)

    def expr(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=value):
                return self.constant(node, value)
            case ast.Name(id=name):
                return name if self.known(name) else self.constant(node, self.names.get(name))
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if self.known(name):
                return f"{name}.{attribute}"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return f"({self.expr(left)} {_BINARY[type(op)]} {self.expr(right)})"
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return f"({_UNARY[type(op)]}{self.expr(operand)})"
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                return f"({self.expr(left)} {_COMPARE[type(op)]} {self.expr(right)})"
            case ast.BoolOp(op=op, values=values):
                return "(" + (" && " if isinstance(op, ast.And) else " || ").join(map(self.expr, values)) + ")"
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return f"({self.expr(test)} ? {self.expr(body)} : {self.expr(orelse)})"
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Slice(lower=lower, upper=upper, step=None)) if (
                lower and upper
            ):
                return f"({name} + {self.expr(lower)})"
            case ast.Subscript(value=ast.Name(id=name), slice=index) if not isinstance(index, ast.Slice):
                return f"{name}[{self.expr(index)}]"
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                called = subset.INTRINSICS.get(name) or (name if name in subset.DEVICE else None)
                if called:
                    return f"{called}({', '.join(map(self.expr, args))})"
        raise self.refuse(node)

    def constant(self, node: ast.AST, value: object) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            if value == -(1 << 63):
                return "(-9223372036854775807LL - 1)"
            if abs(value) < 1 << 63:
                return f"({value}LL)" if value < 0 else f"{value}LL"
        if isinstance(value, float) and value == value and abs(value) != float("inf"):
            return f"({value.hex()})"
        raise self.refuse(node, "not a local, nor a module-level number")


def _wrapper(function: Callable) -> str:
    """The entry point of a kernel: structs by pointer; on the GPU one result per thread."""
    hints = get_type_hints(function)
    names = list(inspect.signature(function).parameters)[2:]
    kinds = {name: _type_name(hints[name]) for name in names}
    parameters = ", ".join(
        f"const {kind}* {name}" if kind == Target.__name__ else f"{kind} {name}" for name, kind in kinds.items()
    )
    arguments = ", ".join(f"*{name}" if kind == Target.__name__ else name for name, kind in kinds.items())
    return f"""\
#ifdef __CUDA_ARCH__
extern "C" __global__ void run_{function.__name__}(i64 count, {parameters}) {{
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {function.__name__}(i, i + 1, {arguments});
}}
#else
extern "C" void run_{function.__name__}(i64 begin, i64 end, {parameters}) {{
  {function.__name__}(begin, end, {arguments});
}}
#endif
"""


@cache
def source() -> str:
    """The whole C++ translation unit: prelude, structs, device functions, kernels, entry points."""
    assert loops  # importing it has registered every kernel
    functions = [*subset.DEVICE.values(), *subset.KERNELS.values()]
    return "\n".join(
        [
            PRELUDE,
            _struct(Target),
            *(_Printer(f).text() for f in functions),
            *(_wrapper(f) for f in subset.KERNELS.values()),
        ]
    )
