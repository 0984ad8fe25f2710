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

from . import rows, subset, tiles
from .structs import STRUCTS

PRELUDE = """\
typedef double f64;
typedef long long i64;
template <class A, class B, class C = i64, class D = i64, class E = i64, class F = i64>
struct results { A a; B b; C c{}; D d{}; E e{}; F f{}; };
#ifdef __CUDA_ARCH__
#define DEVICE __device__
#define DEVICE_INLINE __device__ __forceinline__
DEVICE_INLINE i64 bits_of(f64 x) { return __double_as_longlong(x); }
DEVICE_INLINE f64 from_bits(i64 x) { return __longlong_as_double(x); }
DEVICE_INLINE i64 leading_zeros(i64 x) { return __clzll(x); }
#else
extern "C" double fmod(double, double);
#define DEVICE static
#define DEVICE_INLINE static inline
DEVICE_INLINE i64 bits_of(f64 x) { i64 y; __builtin_memcpy(&y, &x, 8); return y; }
DEVICE_INLINE f64 from_bits(i64 x) { f64 y; __builtin_memcpy(&y, &x, 8); return y; }
DEVICE_INLINE i64 leading_zeros(i64 x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
DEVICE_INLINE f64 fma(f64 x, f64 y, f64 z) { return __builtin_fma(x, y, z); }
DEVICE_INLINE f64 copysign(f64 x, f64 y) { return __builtin_copysign(x, y); }
DEVICE_INLINE f64 floor(f64 x) { return __builtin_floor(x); }
DEVICE_INLINE f64 trunc(f64 x) { return __builtin_trunc(x); }
DEVICE_INLINE f64 sqrt(f64 x) { return __builtin_sqrt(x); }
DEVICE_INLINE f64 fabs(f64 x) { return __builtin_fabs(x); }
#endif
DEVICE_INLINE i64 word(i64 x, f64) { return x; }
DEVICE_INLINE f64 number(i64 x, f64) { return (f64)x; }
DEVICE_INLINE f64 place(i64 x, i64 n, i64 offset, f64) {
  return from_bits((i64)(((unsigned long long)x << n) + (unsigned long long)offset));
}
DEVICE_INLINE i64 displace(f64 x, i64 n, i64 offset) {
  return (i64)(((unsigned long long)bits_of(x) - (unsigned long long)offset) >> n);
}
DEVICE_INLINE f64 nearest_even(f64 y, i64 n) {
  i64 bits = bits_of(y);
  return from_bits((bits + ((1LL << (n - 1)) - 1) + ((bits >> n) & 1)) & -(1LL << n));
}
DEVICE_INLINE f64 binade(f64 x) { return from_bits(bits_of(x) & (0x7FFLL << 52)); }
DEVICE_INLINE f64 like(f64 x, f64 y) { return x; }
DEVICE_INLINE i64 multiply_high(i64 x, i64 y) {
  return (i64)((((unsigned long long)x & 0xFFFFFFFF) * ((unsigned long long)y & 0xFFFFFFFF)) >> 32);
}
DEVICE_INLINE i64 multiply_low(i64 x, i64 y) {
  return (i64)((((unsigned long long)x & 0xFFFFFFFF) * ((unsigned long long)y & 0xFFFFFFFF)) & 0xFFFFFFFF);
}
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
    subset.f64w: "f64*",
    subset.i64w: "i64*",
    type(None): "void",
    tuple[int, int]: "results<i64, i64>",
    tuple[float, int]: "results<f64, i64>",
    tuple[float, int, int]: "results<f64, i64, i64>",
    tuple[bool, int, int, int]: "results<bool, i64, i64, i64>",
    tuple[int, int, int, int]: "results<i64, i64, i64, i64>",
    tuple[int, int, int, int, int, int]: "results<i64, i64, i64, i64, i64, i64>",
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


#: Structs and the C++ types of their fields.
_FIELDS = {cls.__name__: {name: _type_name(kind) for name, kind in get_type_hints(cls).items()} for cls in STRUCTS}


def _parts(kind: str) -> list[str]:
    """The types of the parts of a function's several results."""
    return kind[len("results<") : -1].split(", ") if kind.startswith("results<") else []


def _struct(name: str, fields: dict[str, str]) -> str:
    return f"struct {name} {{ " + " ".join(f"{kind} {field};" for field, kind in fields.items()) + " };\n"


class _Printer:
    """Prints one function. Every expression has a type, and what C++ would convert silently is refused."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.names = function.__globals__
        self.tree: ast.FunctionDef = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]  # type: ignore[assignment]
        self.scopes: list[dict[str, str]] = []
        self.frozen: set[str] = set()  #: loop variables, which must not be assigned
        arguments = self.tree.args if isinstance(self.tree, ast.FunctionDef) else None
        if arguments is None or arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults:
            raise self.refuse(self.tree, "only plain positional parameters")
        hints = get_type_hints(function)
        try:
            self.parameters = {arg.arg: _type_name(hints[arg.arg]) for arg in arguments.args}
            self.result = _type_name(hints["return"])
        except (KeyError, OutsideSubset) as error:
            raise self.refuse(self.tree, f"parameters and result need a type of the subset ({error})") from None

    def refuse(self, node: ast.AST, why: str = "") -> OutsideSubset:
        line = getattr(node, "lineno", "?")
        shown = " ".join(ast.unparse(node).split())[:200]
        what = f"{shown!r} is outside the kernel subset{why and ': ' + why}"
        return OutsideSubset(f"{self.function.__name__}, line {line}: {what}")

    def text(self) -> str:
        self.scopes = [dict(self.parameters)]
        body = self.tree.body[1:] if ast.get_docstring(self.tree) else self.tree.body
        name = self.function.__name__
        qualifier = "DEVICE" if name in subset.CALLED or name in subset.KERNELS else "DEVICE_INLINE"
        parameters = ", ".join(f"{kind} {parameter}" for parameter, kind in self.parameters.items())
        return f"{qualifier} {self.result} {name}({parameters}) {self.block(body)}\n"

    def kind(self, name: str) -> str | None:
        """Type of a local, None if there is none of that name."""
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def block(self, statements: list[ast.stmt], own: dict[str, str] | None = None) -> str:
        self.scopes.append(dict(own or {}))
        inner = "".join(self.statement(s) for s in statements)
        self.scopes.pop()
        return "{\n" + textwrap.indent(inner, "  ") + "}"

    def assign(self, target: ast.expr, value: str, kind: str) -> str:
        if isinstance(target, ast.Name):
            known = self.kind(target.id)
            if target.id in self.frozen or known not in (None, kind):
                raise self.refuse(target, "a loop variable, or a local of another type")
            if known:
                return f"{target.id} = {value};\n"
            self.scopes[-1][target.id] = kind
            return f"{kind} {target.id} = {value};\n"
        if isinstance(target, ast.Subscript) and not isinstance(target.slice, ast.Slice):
            place, element = self.expr(target)
            if element != kind:
                raise self.refuse(target, f"a {kind} for a {element}")
            return f"{place} = {value};\n"
        parts = _parts(kind)
        if isinstance(target, ast.Tuple) and len(target.elts) == len(parts):
            all_of = f"results_{target.lineno}"
            members = zip(target.elts, "abcdef", parts, strict=False)
            assigned = [self.assign(e, f"{all_of}.{m}", k) for e, m, k in members]
            return f"{kind} {all_of} = {value};\n" + "".join(assigned)
        raise self.refuse(target)

    def statement(self, node: ast.stmt) -> str:
        match node:
            case ast.Assign(targets=[target], value=value):
                return self.assign(target, *self.expr(value))
            case ast.AnnAssign(target=ast.Name() as target, value=value) if value is not None:
                text, kind = self.expr(value)
                if _type_name(eval(ast.unparse(node.annotation), self.names)) != kind:
                    raise self.refuse(node, f"the value is a {kind}")
                return self.assign(target, text, kind)
            case ast.Expr(value=ast.Call() as call):
                return self.expr(call)[0] + ";\n"
            case ast.If(test=test, body=body, orelse=orelse):
                otherwise = f" else {self.block(orelse)}" if orelse else ""
                return f"if ({self.typed(test, 'bool')}) {self.block(body)}{otherwise}\n"
            case ast.While(test=test, body=body, orelse=[]):
                return f"while ({self.typed(test, 'bool')}) {self.block(body)}\n"
            case ast.For(
                target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=limits, keywords=[]), orelse=[]
            ) if 1 <= len(limits) <= 2 and self.kind(name) is None:
                first, last = (["0LL"] * (2 - len(limits))) + [self.typed(limit, "i64") for limit in limits]
                self.frozen.add(name)
                body_text = self.block(node.body, own={name: "i64"})
                self.frozen.discard(name)
                return f"for (i64 {name} = {first}, end_{name} = {last}; {name} < end_{name}; {name}++) {body_text}\n"
            case ast.Return(value=ast.Tuple(elts=parts)) if len(parts) == len(_parts(self.result)):
                return f"return {{{', '.join(map(self.typed, parts, _parts(self.result)))}}};\n"
            case ast.Return(value=value) if value is not None:
                return f"return {self.typed(value, self.result)};\n"
        raise self.refuse(node)

    def typed(self, node: ast.expr, kind: str) -> str:
        """The text of an expression that must have a type."""
        text, found = self.expr(node)
        if found != kind:
            raise self.refuse(node, f"a {found} where a {kind} is needed")
        return text

    def same(self, node: ast.expr, *parts: ast.expr, among: tuple[str, ...] = ("i64", "f64")) -> tuple[list[str], str]:
        """Texts of sub-expressions that must share one of some types, and that type."""
        texts, kinds = zip(*map(self.expr, parts), strict=True)
        if len(set(kinds)) != 1 or kinds[0] not in among:
            raise self.refuse(node, f"{' and '.join(kinds)} where {' or '.join(among)} is needed")
        return list(texts), kinds[0]

    def expr(self, node: ast.expr) -> tuple[str, str]:
        """C++ text and type of an expression."""
        match node:
            case ast.Constant(value=value):
                return self.constant(node, value)
            case ast.Name(id=name):
                kind = self.kind(name)
                return (name, kind) if kind else self.constant(node, self.names.get(name))
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if self.kind(name) in _FIELDS:
                return f"{name}.{attribute}", _FIELDS[self.kind(name) or ""][attribute]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                arithmetic = isinstance(op, (ast.Add, ast.Sub, ast.Mult))
                (x, y), kind = self.same(node, left, right, among=("i64", "f64") if arithmetic else ("i64",))
                return f"({x} {_BINARY[type(op)]} {y})", kind
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                (x, y), kind = self.same(node, left, right, among=("f64",))
                return f"({x} / {y})", kind
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                wanted = {ast.Not: ("bool",), ast.Invert: ("i64",)}.get(type(op), ("i64", "f64"))
                (x,), kind = self.same(node, operand, among=wanted)
                return f"({_UNARY[type(op)]}{x})", kind
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                (x, y), _ = self.same(node, left, right, among=("i64", "f64", "bool"))
                return f"({x} {_COMPARE[type(op)]} {y})", "bool"
            case ast.BoolOp(op=op, values=values):
                texts, _ = self.same(node, *values, among=("bool",))
                return "(" + (" && " if isinstance(op, ast.And) else " || ").join(texts) + ")", "bool"
            case ast.IfExp(test=test, body=body, orelse=orelse):
                (x, y), kind = self.same(node, body, orelse, among=("i64", "f64", "bool"))
                return f"({self.typed(test, 'bool')} ? {x} : {y})", kind
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Slice(lower=lower, upper=upper, step=None)) if (
                lower and upper and (self.kind(name) or "").endswith("*")
            ):
                self.typed(upper, "i64")
                return f"({name} + {self.typed(lower, 'i64')})", self.kind(name) or ""
            case ast.Subscript(value=ast.Name(id=name), slice=index) if (self.kind(name) or "").endswith("*"):
                if isinstance(index, (ast.Slice, ast.UnaryOp)):
                    raise self.refuse(node, "an index counts from the front")
                return f"{name}[{self.typed(index, 'i64')}]", (self.kind(name) or "").removesuffix("*")
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if self.kind(name) is None:
                return self.call(node, name, args)
        raise self.refuse(node)

    def call(self, node: ast.expr, name: str, args: list[ast.expr]) -> tuple[str, str]:
        if name in subset.INTRINSICS:
            called, wanted, kind = subset.INTRINSICS[name]
        elif name in subset.DEVICE:
            callee = _Printer(subset.DEVICE[name])
            called, wanted, kind = name, tuple(callee.parameters.values()), callee.result
        else:
            raise self.refuse(node, f"{name} is neither a device function nor an intrinsic")
        texts = [self.expr(arg) for arg in args]
        if len(texts) != len(wanted) or any(
            w not in (found, "any") for w, (_, found) in zip(wanted, texts, strict=True)
        ):
            raise self.refuse(node, f"{name} takes ({', '.join(wanted)})")
        return f"{called}({', '.join(text for text, _ in texts)})", kind

    def constant(self, node: ast.AST, value: object) -> tuple[str, str]:
        if isinstance(value, bool):
            return ("true" if value else "false"), "bool"
        if isinstance(value, int):
            if value == -(1 << 63):
                return "(-9223372036854775807LL - 1)", "i64"
            if abs(value) < 1 << 63:
                return (f"({value}LL)" if value < 0 else f"{value}LL"), "i64"
        if isinstance(value, float) and value == value and abs(value) != float("inf"):
            return f"({value.hex()})", "f64"
        raise self.refuse(node, "not a local, nor a module-level number")


def _wrapper(function: Callable) -> str:
    """The entry point of a kernel: structs by pointer; on the GPU one result per thread, each with its own scratch."""
    hints = get_type_hints(function)
    names = list(inspect.signature(function).parameters)[2:]
    kinds = {name: _type_name(hints[name]) for name in names}
    scratch = {name for name in names if isinstance(hints[name], type) and issubclass(hints[name], subset.Scratch)}
    parameters = ", ".join(
        (f"const {kind}* {name}" if kind in _FIELDS else f"{kind} {name}")
        + (f", i64 each_{name}" if name in scratch else "")
        for name, kind in kinds.items()
    )
    arguments = ", ".join(f"*{name}" if kind in _FIELDS else name for name, kind in kinds.items())
    own = ", ".join(
        f"*{name}" if kind in _FIELDS else f"{name} + i * each_{name}" if name in scratch else name
        for name, kind in kinds.items()
    )
    return f"""\
#ifdef __CUDA_ARCH__
extern "C" __global__ void run_{function.__name__}(i64 count, {parameters}) {{
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {function.__name__}(i, i + 1, {own});
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
    assert rows  # importing it has registered every kernel
    functions = [*subset.DEVICE.values(), *subset.KERNELS.values()]
    return "\n".join(
        [
            PRELUDE,
            *(_struct(*item) for item in _FIELDS.items()),
            *(_Printer(f).text() for f in functions),
            *(_wrapper(f) for f in subset.KERNELS.values()),
            tiles.TEXT,
        ]
    )
