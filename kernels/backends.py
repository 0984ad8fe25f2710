"""Where kernels run: Numba threads (``cpu``), CuPy (``gpu``), or the emitted C++ under the host's compiler (``cxx``).

A backend moves arrays in and launches kernels by name; it holds no arithmetic.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from threadpoolctl import ThreadpoolController

from ..emulator.errors import HalfulpError
from . import rows
from .elementwise import MARGIN, WORK
from .structs import STRUCTS, Struct
from .subset import COMPILED
from .team import work_together
from .tiles import THREADS

_GRID = (1 << 31) - 1  #: blocks of a grid, at most
#: Fewer elementary steps than this are not worth a second thread.
_SERIAL_WORK = 200_000
_BLAS_SPEED = 16  #: multiplications of BLAS in the time of such a step
_ROUNDING = 3  #: steps that a rounding takes
_LARGE = 1 << 27  #: multiplications of a product that takes BLAS some milliseconds
_SMALL = 1 << 15  #: and of one that it does on one thread anyway
_held = threading.local()
_SUMS = 1 << 18  #: numbers of a part that BLAS works on: they are cached when they are looked at again
#: Threads are cut at multiples of it, so that each draws whole groups of random words.
GRAIN = 256


def default_threads() -> int:
    """Threads used where none are asked for: ``HALFULP_THREADS``, else the processors this process may use."""
    text = os.environ.get("HALFULP_THREADS", "")
    if text:
        if not text.isdigit() or int(text) < 1:
            raise HalfulpError(f"HALFULP_THREADS={text!r} must be a positive integer.")
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_blas_controller = lru_cache(maxsize=1)(ThreadpoolController)  # it looks for libraries when it is made


class LoneBlas:
    """BLAS on the calling thread only, as long as anybody is in ``with lone_blas``: it has one number of threads for
    all, and to change it takes some 20 microseconds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  #: of its number of threads
        self._count = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if not self._count:
                self._limit = _blas_controller().limit(limits=1, user_api="blas")
            self._count += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self._count -= 1
            if not self._count:
                self._limit.restore_original_limits()


lone_blas = LoneBlas()


@lru_cache(maxsize=1024)
def pack_struct(values: Struct) -> bytes:
    """A NamedTuple of the kernels as the C++ struct of the same fields, each of 64 bits."""
    hints = get_type_hints(type(values))
    return struct.pack("=" + "".join("d" if hints[name] is float else "q" for name in values._fields), *values)


class Work(NamedTuple):
    """A kernel's scratch argument: so many numbers for each result of a chunk (``subset.Scratch``)."""

    name: str
    each: int
    dtype: Any = np.float64


def runs_across(rows: int, columns: int) -> bool:
    """Whether a product of matrices is shared out by its columns, not by its rows."""
    return columns > 2 * rows


def runs_at_once(rows: int, depth: int, columns: int) -> bool:
    """Whether a product of matrices is so large that BLAS's own threads do it, though they wait busily afterwards."""
    return rows * depth * columns >= _LARGE


class Backend:
    """Arrays on the host; ``launch`` splits [0, count) over threads."""

    name = "host"
    xp: Any = np

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or default_threads()

    def array(self, values: Any, dtype: type = np.float64) -> Any:
        """``values`` as kernels take them: Numba compiles anew for arrays of other layouts, or read-only ones."""
        return np.require(values, dtype, ["C", "W"])

    def is_native(self, values: Any) -> bool:
        """Whether ``values`` lives where the backend computes."""
        return True

    def to_host(self, values: Any) -> Any:
        return values

    def scratch(self, name: str, size: int, dtype: Any = np.float64) -> Any:
        """An array for a kernel to work in, which the calling thread's next one of that name may be again.

        Kernels touch little of it; pages that are new with every call would cost more than the arithmetic on them.
        """
        arrays: dict[tuple[str, Any], np.ndarray] = vars(_held)  # type: ignore[assignment]
        held = arrays.get((name, dtype))
        if held is None or held.size < size:
            held = arrays[name, dtype] = np.empty(size, dtype)
        return held[:size]

    def few(self, name: str, count: int, dtype: Any = np.int64) -> Work:
        """Scratch of so many numbers for a thread, however many results it has."""
        return Work(name, max(1, -(-count // WORK)), dtype)

    def blas(
        self,
        part: Callable[[slice, slice], None],
        rows: int,
        depth: int,
        columns: int,
        across: bool,
        converts: bool = False,
        finishes: bool = False,
    ) -> None:
        """``part(rows, columns)`` of a product (rows, depth) (depth, columns), each thread calling BLAS for itself.

        BLAS's own threads would be waiting, busily, for its next call while the kernels run; only large products are
        theirs. across : the columns are shared out, not the rows. converts : the part also converts the operand cut;
        finishes : it also rounds its results.
        """
        if runs_at_once(rows, depth, columns):
            with lone_blas.lock, _blas_controller().limit(limits=self.threads, user_api="blas"):
                part(slice(0, rows), slice(0, columns))
            return
        if rows * depth * columns <= _SMALL:
            part(slice(0, rows), slice(0, columns))
            return
        count, each = (columns, rows) if across else (rows, columns)
        parts = -(-count * max(each, depth if converts else 0) // (_SUMS * self.threads))

        def run(begin: int, end: int) -> None:
            cut = slice(begin, end)
            part(*((slice(0, rows), cut) if across else (cut, slice(0, columns))))

        with lone_blas:
            work = depth * each // _BLAS_SPEED + each * (_ROUNDING if finishes else 0)
            self.share(run, count, work, grain=8, parts=parts)

    def work(self, args: tuple[Any, ...]) -> list[Any]:
        """The arguments of a kernel, scratch as the calling thread's arrays."""
        return [
            self.scratch(arg.name, arg.each * WORK + MARGIN, arg.dtype) if isinstance(arg, Work) else arg
            for arg in args
        ]

    def run(self, kernel: str, begin: int, end: int, *args: Any) -> None:
        raise NotImplementedError

    def launch(self, kernel: str, count: int, *args: Any, work: int = 1) -> None:
        """Run a kernel over ``count`` results of about ``work`` steps each. Threads never change a bit."""
        self.share(lambda begin, end: self.run(kernel, begin, end, *args), count, work)

    def share(
        self, part: Callable[[int, int], None], count: int, work: int, grain: int = GRAIN, parts: int = 1
    ) -> None:
        """``part(begin, end)`` over [0, count), on the threads: ``parts`` for each, cut at multiples of ``grain``."""
        threads = min(self.threads, count, 1 + count * work // _SERIAL_WORK)
        if threads * parts <= 1:
            part(0, count)
            return
        cuts = [count * i // (threads * parts) // grain * grain for i in range(threads * parts)] + [count]
        left = iter([(begin, end) for begin, end in itertools.pairwise(cuts) if end > begin])

        def drain() -> None:
            try:
                for begin, end in left:
                    part(begin, end)
            except BaseException:
                list(left)  # nobody goes on
                raise

        try:
            work_together(drain, threads - 1)
        except BaseException:  # Ctrl-C, say: a helper may still be at work in the scratch arrays
            vars(_held).clear()
            raise


class CpuBackend(Backend):
    """Numba."""

    name = "cpu"
    kernels = rows  #: the module that, imported, has registered every kernel

    def run(self, kernel: str, begin: int, end: int, *args: Any) -> None:
        COMPILED[kernel](begin, end, *self.work(args))


class CxxBackend(Backend):
    """The emitted C++, compiled by the host's compiler: how the GPU's source is checked where there is no GPU.

    ``HALFULP_CXX`` names the compiler, ``HALFULP_CXXFLAGS`` adds flags (the tests add UBSan).
    """

    name = "cxx"

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(threads)
        self.library = ctypes.CDLL(
            str(_compiled(os.environ.get("HALFULP_CXX", ""), os.environ.get("HALFULP_CXXFLAGS", "")))
        )

    def run(self, kernel: str, begin: int, end: int, *args: Any) -> None:
        converted: list[Any] = [ctypes.c_longlong(begin), ctypes.c_longlong(end)]
        for given, arg in zip(args, self.work(args), strict=True):
            if isinstance(arg, STRUCTS):
                converted.append(ctypes.c_char_p(pack_struct(arg)))
            elif isinstance(arg, np.ndarray):
                converted.append(ctypes.c_void_p(arg.ctypes.data))
                converted += [ctypes.c_longlong(given.each)] if isinstance(given, Work) else []
            else:
                converted.append(ctypes.c_longlong(int(arg)))
        getattr(self.library, f"run_{kernel}")(*converted)


@lru_cache(maxsize=8)
def _compiled(compiler: str, extra: str) -> Path:
    """Path of the shared library; built once per source, compiler and flags."""
    from .emit import source

    compiler = compiler or next((c for c in ("g++", "clang++", "c++") if shutil.which(c)), "")
    if not compiler:
        raise HalfulpError("backend 'cxx' needs a C++ compiler: install g++ or set HALFULP_CXX.")
    text = source()
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", *extra.split()]
    digest = hashlib.sha256("\0".join([compiler, *flags, text]).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "halfulp"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    library = folder / f"{digest}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            file = Path(work) / "kernels.cpp"
            file.write_text(text, encoding="utf-8")
            built = Path(work) / "kernels.so"
            command = [compiler, *flags, str(file), "-o", str(built), "-lm"]
            try:
                result = subprocess.run(command, capture_output=True, text=True)
            except OSError as error:
                raise HalfulpError(f"cannot run the compiler {compiler!r}: {error.strerror}.") from None
            if result.returncode:
                raise HalfulpError(f"{compiler} could not compile the kernels: {result.stderr.strip()[:2000]}")
            built.rename(library)
    return library


class GpuBackend(Backend):
    """CuPy: the emitted C++ through NVRTC, one thread per result.

    Contraction is off (``--fmad=false``). CuPy adds ``-ftz=true``, which concerns float32 only; the kernels
    compute in float64 and int64.
    """

    name = "gpu"
    _BLOCK = 128

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(1)
        try:
            import cupy

            from .emit import source

            cupy.cuda.runtime.getDeviceCount()
            self.module = cupy.RawModule(code=source(), options=("--std=c++17", "--fmad=false"))
            self.module.compile()
        except Exception as error:  # ImportError, or CuPy's own errors where no driver is found
            raise HalfulpError(
                f"backend 'gpu' needs CuPy and a CUDA device ({type(error).__name__}): pip install 'halfulp[gpu]'."
            ) from None
        self.xp = cupy
        self._structs: dict[Struct, Any] = {}
        self._functions: dict[str, Any] = {}

    def array(self, values: Any, dtype: type = np.float64) -> Any:
        return self.xp.asarray(values, dtype=dtype, order="C")

    def scratch(self, name: str, size: int, dtype: Any = np.float64) -> Any:
        return self.xp.empty(size, dtype)  # of a pool already

    def few(self, name: str, count: int, dtype: Any = np.int64) -> Work:
        return Work(name, max(1, count), dtype)

    def is_native(self, values: Any) -> bool:
        return isinstance(values, self.xp.ndarray)

    def to_host(self, values: Any) -> Any:
        return self.xp.asnumpy(values) if self.is_native(values) else values

    def _argument(self, arg: Any) -> Any:
        if isinstance(arg, STRUCTS):
            if arg not in self._structs:
                if len(self._structs) > 256:  # every call has its own Draws
                    self._structs.clear()
                self._structs[arg] = self.xp.asarray(np.frombuffer(pack_struct(arg), dtype=np.int64))
            return self._structs[arg]
        return arg if isinstance(arg, self.xp.ndarray) else np.int64(int(arg))

    def launch(self, kernel: str, count: int, *args: Any, work: int = 1) -> None:
        if kernel not in self._functions:
            self._functions[kernel] = self.module.get_function(f"run_{kernel}")
        blocks, threads = (count, THREADS) if kernel == "tiles" else (-(-count // self._BLOCK), self._BLOCK)
        values: list[Any] = []
        for arg in args:
            if isinstance(arg, Work):
                values += [self.xp.empty(count * arg.each + MARGIN, arg.dtype), np.int64(arg.each)]
            else:
                values.append(self._argument(arg))
        self._functions[kernel]((min(blocks, _GRID),), (threads,), (np.int64(count), *values))


_BACKENDS = {"cpu": CpuBackend, "gpu": GpuBackend, "cxx": CxxBackend}


def backend(name: str = "cpu", threads: int | None = None) -> Backend:
    """A backend by name: ``cpu``, ``gpu`` or ``cxx``."""
    if name not in _BACKENDS:
        raise HalfulpError(f"unknown backend {name!r}: choose cpu, gpu or cxx.")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise HalfulpError(f"threads must be a positive integer, not {threads!r}.")
    return _BACKENDS[name](threads)
