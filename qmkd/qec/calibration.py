"""The table of measured logical errors: its format, how to look things up, and what lies beyond it.

An entry says what one gadget (memory, CNOT, ...) of one code, distance and noise does to logical
qubits, in one basis, with the counts behind it. Looking up gives the measured entry where there is
one, else what the fitted law says, marked as extrapolated. Measuring is in `measuring.py`; the
shipped table is read by `qmkd.qec.data`. Two tables can be joined, so that one grown on demand
extends the shipped one. Nothing here samples, and nothing reads files.

Units: a memory's rates are per round and logical qubit; a gate's are per gate, beyond what the
rounds around it cost. X errors are seen by a memory in Z, Z errors by one in X; the two are taken
as independent of each other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from qmkd.qec.flips import from_log, to_log
from qmkd.qec.laws import DISTANCE_MAX, P_MIN, Law, fit_law
from qmkd.qec.reach import Reach

FORMAT: Final = 2
ENTRIES_MAX: Final = 100_000
ASKED_MAX: Final = 1 << 16
"""Answers that a table remembers, so that asking again is a look-up in a dictionary."""

INJECTIONS: Final = frozenset({"inject", "inject_quiet"})
"""Gadgets that one fault is enough to spoil, whatever the distance."""

Basis = Literal["X", "Z"]
How = Literal["measured", "interpolated", "extrapolated"]
HOWS: Final[tuple[How, ...]] = ("measured", "interpolated", "extrapolated")
ERRS: Final[Mapping[Basis, str]] = {"X": "Z", "Z": "X"}
"""The logical error that a memory of this basis sees."""


class TableError(ValueError):
    """A table that is damaged, or of a format that this version does not read."""


class NotKnown(LookupError):
    """Neither measured nor within reach of a law. The message says what there is."""


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """A logical Pauli, one letter per logical qubit of the gadget, and its chance.

    low, high: a 95 % interval.
    """

    pauli: str
    rate: float
    low: float
    high: float


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted. errors: shots of `rounds` rounds in which any observable was wrong."""

    rounds: int
    shots: int
    errors: int
    seed: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a gadget does in one basis.

    per: "round" for a memory: each logical qubit, each round. Otherwise "gate".
    terms: chances of logical errors; of several observables of a block, their mean.
    boundary: of a memory, what preparing and measuring together add, as -ln(1 - 2 chance) / 2;
    often below zero, because the first and last round see fewer errors than one between them.
    interval: how `low` and `high` of the terms were found.
    """

    code: str
    variant: str
    distance: int
    noise: str
    p: float
    gadget: str
    basis: Basis
    per: Literal["round", "gate"]
    terms: tuple[Term, ...]
    boundary: float = 0.0
    decoder: str
    interval: str
    experiments: tuple[Experiment, ...]

    @property
    def key(self) -> Key:
        return Key(self.code, self.distance, self.noise, self.p, self.gadget, self.basis)

    @property
    def errors(self) -> int:
        return sum(each.errors for each in self.experiments)


class Key(NamedTuple):
    code: str
    distance: int
    noise: str
    p: float
    gadget: str
    basis: Basis


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a gadget, both kinds of error together.

    terms: logical Paulis and their chances, those of one basis independent of the other's.
    boundary: X-type and Z-type, as `Entry.boundary`; (0, 0) for gates.
    how: whether every number was measured, interpolated between measured ones, or extrapolated.
    source: decoder and counts, or the law.
    """

    terms: tuple[Term, ...]
    boundary: tuple[float, float]
    how: How
    source: str

    def rate(self, pauli: str) -> float:
        """Chance of this logical Pauli; 0 if it is not listed."""
        return sum(term.rate for term in self.terms if term.pauli == pauli)

    def both(self) -> float:
        """Chance of any logical error."""
        return -math.expm1(sum(math.log1p(-term.rate) for term in self.terms))

    def end(self, pauli: str) -> float:
        """Of a memory: chance of the error in a preparation or a measurement with its round.

        A qubit that is prepared, kept and measured over n rounds in all suffers this twice and
        n - 2 times `rate`, which adds up to what the memories of n rounds were measured to suffer.
        """
        boundary = self.boundary["XZ".index(pauli)]
        return from_log(max(0.0, to_log(self.rate(pauli)) + boundary / 2))


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """versions: of the libraries that measured. command: what makes the table again.

    reach: which memories the entries tell of, laws included; it follows from them.
    """

    format: int
    sha256: str
    command: str
    versions: dict[str, str]
    reach: tuple[Reach, ...]


class Table:
    """Entries by key. Answers are remembered; a table does not change."""

    def __init__(self, entries: Iterable[Entry], versions: Mapping[str, str]) -> None:
        self.entries: dict[Key, Entry] = {entry.key: entry for entry in entries}
        self.versions = dict(versions)
        self._answers: dict[tuple[str, int, str, float, str], Answer] = {}
        self._laws: dict[tuple[str, str, str], Law | None] = {}

    def joined(self, other: Table) -> Table:
        """Both; where both know something, `other` wins."""
        entries = {**self.entries, **other.entries}
        return Table(entries.values(), {**self.versions, **other.versions})

    def look_up(self, code: str, distance: int, noise: str, p: float, gadget: str) -> Answer:
        """What the gadget does. Asked again, the answer comes from a dictionary.

        Raises NotKnown.
        """
        asked = (code, distance, noise, p, gadget)
        found = self._answers.get(asked)
        if found is None:
            found = self._answer(code, distance, noise, p, gadget)
            if len(self._answers) < ASKED_MAX:
                self._answers[asked] = found
        return found

    def reach(self) -> tuple[Reach, ...]:
        """All memories that `look_up` answers for: by laws, and measured points beyond these."""
        pairs = sorted({(each.code, each.noise) for each in self.entries})
        return tuple(reach for pair in pairs for reach in self._reach(*pair))

    def _reach(self, code: str, noise: str) -> Iterator[Reach]:
        x, z = (self._law_of(code, noise, basis) for basis in ERRS)
        p_most, reached = 0.0, set[int]()
        if x is not None and z is not None:
            p_most = min(x.p_most, z.p_most)
            every = range(1, DISTANCE_MAX + 1)
            reached = {d for d in every if x.reaches(d, p_most) and z.reaches(d, p_most)}
            yield from _reaching(code, noise, P_MIN, p_most, reached)
        beyond: dict[float, set[int]] = {}
        for key in self.entries:
            if (key.code, key.noise, key.gadget) != (code, noise, "memory"):
                continue
            whole = all(key._replace(basis=basis) in self.entries for basis in ERRS)
            if whole and not (key.distance in reached and P_MIN <= key.p <= p_most):
                beyond.setdefault(key.p, set()).add(key.distance)
        for p, distances in sorted(beyond.items()):
            yield from _reaching(code, noise, p, p, distances)

    def _answer(self, code: str, distance: int, noise: str, p: float, gadget: str) -> Answer:
        # Basis Z first: it sees X errors.
        bases: tuple[Basis, ...] = ("Z", "X")
        parts = [self._of_basis(Key(code, distance, noise, p, gadget, basis)) for basis in bases]
        hows = [part[2] for part in parts]
        worst = max(hows, key=HOWS.index)
        return Answer(
            terms=tuple(term for part in parts for term in part[0]),
            boundary=(parts[0][1], parts[1][1]),
            how=worst,
            source="; ".join(dict.fromkeys(part[3] for part in parts)),
        )

    def _of_basis(self, key: Key) -> tuple[tuple[Term, ...], float, How, str]:
        """Terms, boundary, how, source of one basis."""
        entry = self.entries.get(key)
        if entry is not None:
            shots = sum(each.shots for each in entry.experiments)
            source = f"{entry.decoder}, {entry.errors} errors in {shots} shots"
            return entry.terms, entry.boundary, "measured", source
        if key.gadget == "memory":
            return self._memory_by_law(key)
        return self._scaled_by_memory(key)

    def _memory_by_law(self, key: Key) -> tuple[tuple[Term, ...], float, How, str]:
        law = self._law(key)
        pauli = ERRS[key.basis]
        value, low, high, inside = law.rate(key.distance, key.p)
        term = Term(pauli=pauli, rate=value, low=low, high=high)
        # The ends see about one round less; the law does not say how much less.
        if inside:
            return (term,), -to_log(value), "interpolated", "between measured strengths"
        return (term,), -to_log(value), "extrapolated", str(law)

    def _law_of(self, code: str, noise: str, basis: Basis) -> Law | None:
        which = (code, noise, basis)
        if which not in self._laws:
            points = [
                (entry.distance, entry.p, entry.terms[0].rate, entry.errors)
                for entry in self.entries.values()
                if (entry.code, entry.noise, entry.basis, entry.gadget) == (*which, "memory")
                and entry.errors
            ]
            self._laws[which] = fit_law(code, points)
        return self._laws[which]

    def _law(self, key: Key) -> Law:
        law = self._law_of(key.code, key.noise, key.basis)
        if law is None or not law.reaches(key.distance, key.p):
            known = sorted(
                (each.distance, each.p)
                for each in self.entries
                if (each.code, each.noise, each.gadget) == (key.code, key.noise, "memory")
            )
            raise NotKnown(
                f"{key.code} d={key.distance} under {key.noise} noise of {key.p:g} was not measured"
                f" and no law reaches it; measured are (d, p) = {sorted(set(known))}"
            )
        return law

    def _scaled_by_memory(self, key: Key) -> tuple[tuple[Term, ...], float, How, str]:
        """A gate's terms at another distance or noise: as many rounds of memory as where known."""
        known = [
            entry
            for entry in self.entries.values()
            if (entry.code, entry.noise, entry.gadget, entry.basis)
            == (key.code, key.noise, key.gadget, key.basis)
        ]
        if not known:
            raise NotKnown(f"{key.gadget} of {key.code} was not measured under {key.noise} noise")
        near = min(known, key=lambda entry: _distance(entry, key))
        if near.gadget in INJECTIONS:
            factor, how = key.p / near.p, "scaled as p is"
        else:
            here = self._of_basis(key._replace(gadget="memory"))
            there = self._of_basis(near.key._replace(gadget="memory"))
            factor, how = to_log(here[0][0].rate) / to_log(there[0][0].rate), "scaled as memory is"
        terms = tuple(
            msgspec.structs.replace(
                term, rate=term.rate * factor, low=term.low * factor, high=term.high * factor
            )
            for term in near.terms
        )
        source = f"{near.gadget} at d={near.distance}, p={near.p:g}, {how}"
        return terms, 0.0, "extrapolated", source


def _reaching(
    code: str, noise: str, p_least: float, p_most: float, distances: set[int]
) -> Iterator[Reach]:
    if distances:
        those = tuple(sorted(distances))
        yield Reach(code=code, noise=noise, p_least=p_least, p_most=p_most, distances=those)


def _distance(entry: Entry, key: Key) -> float:
    """How far an entry is from what is asked for; a factor e in p is as far as two distances."""
    return abs(entry.distance - key.distance) + 2 * abs(math.log(entry.p / key.p))


# --- format ---------------------------------------------------------------------------------------


def encode(table: Table, command: str) -> bytes:
    """The table as text: a line with the header, then one line per entry, by key.

    The header's digest is the SHA-256 of all that follows its line.
    """
    lines = [
        msgspec.json.encode(table.entries[key], order="deterministic") + b"\n"
        for key in sorted(table.entries)
    ]
    body = b"".join(lines)
    header = Header(
        format=FORMAT,
        sha256=hashlib.sha256(body).hexdigest(),
        command=command,
        versions=table.versions,
        reach=table.reach(),
    )
    return msgspec.json.encode(header, order="deterministic") + b"\n" + body


def decode(text: bytes) -> Table:
    """The table that `encode` made this text of. Raises TableError."""
    first, _, body = text.partition(b"\n")
    if not first:
        raise TableError("an empty table: even the header is missing")
    lines = body.splitlines()
    if len(lines) > ENTRIES_MAX:
        raise TableError(f"a table of {len(lines)} entries; at most {ENTRIES_MAX}")
    try:
        header = msgspec.json.decode(first, type=Header)
        if header.format != FORMAT:
            raise TableError(f"format {header.format}; this version reads {FORMAT}")
        if hashlib.sha256(body).hexdigest() != header.sha256:
            raise TableError("the entries do not have the digest that the header states")
        entries = [msgspec.json.decode(line, type=Entry) for line in lines]
    except msgspec.MsgspecError as problem:
        raise TableError(f"not a calibration table: {problem}") from problem
    if len({entry.key for entry in entries}) != len(entries):
        raise TableError("two entries have the same key")
    return Table(entries, header.versions)
