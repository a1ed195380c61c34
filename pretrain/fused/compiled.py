"""The C files beside this one, compiled at first use and kept in the user's cache."""

import ctypes
import hashlib
import os
import shlex
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

__all__ = ["call", "kernels"]

FOLDER = Path(__file__).parent
SOURCES = ("rows.c", "heads.c")
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
VECTORS = {
    "AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    "AVX2": ("-march=x86-64-v3",),
}
"""What torch finds the processor to have, and how to ask for it."""
Argument = torch.Tensor | list[torch.Tensor] | float | None
SECONDS = 60
"""That compiling may take: it takes one."""


@cache
def kernels() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be made, and torch does the same slower.

    `CC` names the compiler, `XDG_CACHE_HOME` the cache.
    """
    flags = (*FLAGS, *VECTORS.get(torch.backends.cpu.get_cpu_capability(), ()))
    try:
        texts = [(FOLDER / name).read_bytes() for name in ("numbers.h", *SOURCES)]
        digest = hashlib.sha256(b"".join(texts) + repr(flags).encode()).hexdigest()
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "commonroot"
        library = home / f"kernels-{digest[:16]}.so"
        if not library.exists():
            home.mkdir(parents=True, exist_ok=True)
            _compile(library, flags)
        loaded = ctypes.CDLL(str(library))
        return loaded if _shares_threads(loaded) else None
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError):
        return None


def _shares_threads(library: ctypes.CDLL) -> bool:
    """Whether it is linked with torch's own OpenMP, and one that can put threads to rest."""
    if not hasattr(library, "omp_pause_resource_all"):
        return False
    threads = torch.get_num_threads()
    library.omp_set_num_threads(threads + 1)
    shared = torch.get_num_threads() == threads + 1
    library.omp_set_num_threads(threads)
    return shared


def call(kernel: "ctypes._NamedFuncPointer", *arguments: Argument) -> None:
    """Run `kernel` on contiguous tensors, sizes (int) and numbers (float), on torch's threads."""
    if not kernel.argtypes:
        kernel.argtypes = [*map(_type_in_c, arguments), ctypes.c_int]
    kernel(*map(_in_c, arguments), torch.get_num_threads())


def _compile(library: Path, flags: tuple[str, ...]) -> None:
    """Leave the whole library or none: other processes may want it at the same time."""
    with tempfile.TemporaryDirectory(dir=library.parent) as aside:
        made = Path(aside) / "kernels.so"
        compiler = shlex.split(os.environ.get("CC") or "cc")
        sources = [str(FOLDER / name) for name in SOURCES]
        command = [*compiler, *flags, *sources, "-o", str(made), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        made.replace(library)


def _type_in_c(argument: Argument) -> type:
    if isinstance(argument, float):
        return ctypes.c_float
    return ctypes.c_int64 if isinstance(argument, int) else ctypes.c_void_p


def _in_c(argument: Argument) -> object:
    if isinstance(argument, torch.Tensor):
        return _address(argument)
    if isinstance(argument, list):
        return (ctypes.c_void_p * len(argument))(*map(_address, argument))
    return argument


def _address(tensor: torch.Tensor) -> int:
    if not tensor.is_contiguous():
        raise ValueError(f"a kernel wants contiguous tensors, not strides {tensor.stride()}")
    return tensor.data_ptr()
