"""Circuits of other formats in, `Circuit` out: which front end reads what.

Each module here reads one format with that format's library, imported only when it is called, and
has `load(source, *, file)`. What cannot be expressed is `Unsupported`, with its line. Nothing is
dropped or approximated.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from runtime.jit.circuit import Circuit, Unsupported


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A format: its module here, how its files' names end, and the Python objects it stands for.

    binary: a suffix of files that are handed over as bytes. package: of the library whose objects
        the module takes as well, or "". options: what the module can be told beside the source.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    binary: tuple[str, ...] = ()
    package: str = ""
    options: tuple[str, ...] = ()


FORMATS: Final[tuple[Format, ...]] = (
    Format(name="qasm2"),
    Format(name="qasm3", suffixes=(".qasm3",), options=("inputs",)),
    Format(name="stim", suffixes=(".stim",), package="stim", options=("drop_noise",)),
    Format(name="qir", suffixes=(".ll",), binary=(".bc",), options=("entry",)),
    Format(name="qiskit", binary=(".qpy",), package="qiskit"),
    Format(name="cirq", package="cirq"),
    Format(name="pytket", package="pytket"),
    Format(name="qvm", package="qvm"),
)
NAMES: Final = tuple(each.name for each in FORMATS)
SUFFIXES: Final = (".qasm", *(end for each in FORMATS for end in (*each.suffixes, *each.binary)))
"""How the names of files end that `load` knows without being told, in capitals too."""
_COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def load(source: Path | str | bytes | Any, format: str | None = None, **options: Any) -> Circuit:
    """Read a circuit.

    source: a path; or the text itself, a string with a line break in it; or bytes; or an object of
        a format's library, such as a Qiskit `QuantumCircuit`.
    format: one of NAMES; else it is told by the suffix, the object's package, or, of OpenQASM, the
        version it states.
    options: what the format's front end takes beside these.
    Raises Unsupported, OSError where a file cannot be read, and ValueError where the format cannot
    be told or its library is not installed.
    """
    if isinstance(source, str) and "\n" not in source:
        source = Path(source)
    file = str(source) if isinstance(source, Path) else ""
    name = format or _name(source)
    if name not in NAMES:
        raise ValueError(f"there is no format {name!r}; there are {', '.join(NAMES)}")
    if isinstance(source, Path):
        source = source.read_bytes()
    (found,) = [each for each in FORMATS if each.name == name]
    unknown = next((option for option in options if option not in found.options), None)
    if unknown is not None:
        raise ValueError(f"{name} circuits are read without an option {unknown!r}")
    whole = Path(file).suffix.lower() in found.binary if file else bool(found.binary)
    if isinstance(source, bytes) and not whole:
        source = _text(source, file)
    try:
        module = importlib.import_module(f"runtime.jit.frontends.{name}")
        circuit: Circuit = module.load(source, file=file, **options)
    except ModuleNotFoundError as error:
        why = f"reading {name} needs the package {error.name}: pip install 'qmkd[jit]'"
        raise ValueError(why) from error
    return circuit


def _text(raw: bytes, file: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 text (byte {error.start})"
        raise Unsupported(0, 0, "", why, file=file) from None


def _name(source: Path | str | bytes | Any) -> str:
    """The format of a source that nobody named. Raises ValueError."""
    if isinstance(source, Path):
        suffix = source.suffix.lower()
        if source.name.lower().endswith((".qvm", ".qvm.json")):
            return "qvm"
        if suffix == ".qasm":
            return _version(_text(source.read_bytes(), str(source)))
        for each in FORMATS:
            if suffix in (*each.suffixes, *each.binary):
                return each.name
        raise ValueError(f"{source} ends in none of {', '.join(SUFFIXES)}: name its format")
    if isinstance(source, str):
        if _header(source).startswith("OPENQASM"):
            return _version(source)
        raise ValueError("the text does not state OPENQASM and a version: name its format")
    package = type(source).__module__.partition(".")[0]
    for each in FORMATS:
        if each.package == package:
            return each.name
    raise ValueError(f"an object of {package or 'no package'} needs its format named")


def _header(text: str) -> str:
    """What stands before the first semicolon, without comments."""
    return _COMMENT.sub(" ", text).partition(";")[0].strip()


def _version(text: str) -> str:
    """`qasm2` where the text states version 2, else `qasm3`, which need not be stated."""
    words = _header(text).split()
    return "qasm2" if words[:1] == ["OPENQASM"] and words[1:2] and words[1][0] == "2" else "qasm3"
