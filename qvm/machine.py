"""What a machine is made of: modules of qubits, T factories, links between modules, a decoder; and
what is, or will be, wrong with it.

Types, what must hold between them (`faults`), and what follows from them; nothing here reads a
file or decides anything. Descriptions are TOML files, some of which come with the daemon
(`qmkd/shell/machines/`); what the fields mean to whoever writes one is in `docs/machine.md`. Which
qubits are whose is `blocks.py`, how long a program takes `cycles.py`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from syscalls.fault import FAULTS_MAX, Fault, FaultKind

MODULES_MAX: Final = 256
QUBITS_MAX: Final = 1 << 40
MILLION: Final = 1_000_000
"""Rates are whole numbers per million cycles, so that sums of them are exact."""
NEVER_CYCLES: Final = 1e18

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Positive = Annotated[int, Meta(ge=1, le=QUBITS_MAX)]


class Module(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Qubits between which every operation is local."""

    name: Name
    qubits: Positive


class Factory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`number` alike T factories: each takes `qubits` of its module, and `cycles` for a T state."""

    module: Name
    qubits: Positive
    cycles: Annotated[float, Meta(gt=0, le=1e9)]
    number: Positive = 1


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source of raw Bell pairs between two modules: `cycles` for a pair of this fidelity.

    lifetime: cycles in which a pair that is kept loses all but 1/e of what it has beyond noise
    (`pairs.stored`); None where it keeps it.
    """

    between: tuple[Name, Name]
    cycles: Annotated[float, Meta(gt=0, le=1e12)]
    fidelity: Annotated[float, Meta(gt=0, le=1)]
    lifetime: Annotated[float, Meta(gt=0, le=1e15)] | None = None

    @property
    def rate(self) -> int:
        """Raw pairs per million cycles."""
        return pair_rate(self.cycles)


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A machine.

    cycle_ns: one round of syndrome extraction. modules: their order numbers the physical qubits.
    factory: none stands for T states without limit. decoder_blocks: code blocks whose syndromes
    are decoded as fast as they are measured; None for all. fault: what will be wrong, and when.
    """

    name: Name
    module: Annotated[tuple[Module, ...], Meta(min_length=1, max_length=MODULES_MAX)]
    about: str = ""
    cycle_ns: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1_000
    factory: tuple[Factory, ...] = ()
    link: tuple[Link, ...] = ()
    decoder_blocks: Positive | None = None
    fault: Annotated[tuple[Fault, ...], Meta(max_length=FAULTS_MAX)] = ()

    @cached_property
    def qubits(self) -> int:
        """All physical qubits, those of factories among them."""
        return sum(each.qubits for each in self.module)

    @cached_property
    def spare(self) -> tuple[int, ...]:
        """Of each module, the qubits that no factory takes."""
        taken = {each.name: 0 for each in self.module}
        for factory in self.factory:
            taken[factory.module] += factory.number * factory.qubits
        return tuple(each.qubits - taken[each.name] for each in self.module)

    @cached_property
    def t_rate(self) -> int | None:
        """T states per million cycles, of all factories together; None without limit."""
        if not self.factory:
            return None
        return int(sum(each.number * MILLION / each.cycles for each in self.factory))

    @cached_property
    def links(self) -> dict[tuple[int, int], Link]:
        """By the numbers of its two modules, in either order."""
        place = {each.name: at for at, each in enumerate(self.module)}
        ends = [(place[each.between[0]], place[each.between[1]]) for each in self.link]
        there = dict(zip(ends, self.link, strict=True))
        return there | {(b, a): each for (a, b), each in there.items()}

    @cached_property
    def neighbours(self) -> tuple[frozenset[int], ...]:
        """Of each module, by number, those that a link leads to."""
        links = self.links
        return tuple(frozenset(b for a, b in links if a == at) for at in range(len(self.module)))


def pair_rate(cycles: float) -> int:
    """Raw pairs per million cycles, one at least, where one takes so many cycles."""
    return max(1, int(MILLION / cycles))


def plain(qubits: int) -> Hardware:
    """One module, T states and decoding without limit, a microsecond a cycle."""
    return Hardware(name="plain", module=(Module(name="main", qubits=qubits),))


def parsed(text: bytes) -> dict[str, Any] | str:
    """What a TOML document holds, or one sentence why it is none."""
    try:
        return tomllib.loads(text.decode())
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        return str(error)
    except RecursionError:
        return "the document nests too deep to be read"


def described(text: bytes) -> Hardware | list[tuple[str, str]]:
    """The machine that a TOML document describes; or (path, sentence) for each finding."""
    document = parsed(text)
    if isinstance(document, str):
        return [("", document)]
    try:
        hardware = msgspec.convert(document, Hardware)
    except msgspec.ValidationError as error:
        sentence, _, place = str(error).partition(" - at `")
        return [(place.removesuffix("`") or "$", sentence)]
    return list(faults(hardware)) or hardware


def faults(hardware: Hardware) -> Iterator[tuple[str, str]]:
    """Where a description contradicts itself: (path, sentence) for each fault."""
    names = [each.name for each in hardware.module]
    for at, name in enumerate(names):
        if name in names[:at]:
            yield f"$.module[{at}].name", f"{name!r} is taken"
    known = set(names)
    if hardware.qubits > QUBITS_MAX:
        yield "$.module", f"more than {QUBITS_MAX} qubits together"
    for at, factory in enumerate(hardware.factory):
        if factory.module not in known:
            yield f"$.factory[{at}].module", f"no module is named {factory.module!r}"
    joined: set[frozenset[str]] = set()
    for at, link in enumerate(hardware.link):
        for end, name in enumerate(link.between):
            if name not in known:
                yield f"$.link[{at}].between[{end}]", f"no module is named {name!r}"
        ends = frozenset(link.between)
        if len(ends) == 1:
            yield f"$.link[{at}].between", "a link joins two modules"
        elif ends in joined:
            yield f"$.link[{at}].between", f"{' and '.join(sorted(ends))} are linked already"
        joined.add(ends)
    if len(known) == len(names) and all(each.module in known for each in hardware.factory):
        for at, spare in enumerate(hardware.spare):
            if spare < 1:
                taken = hardware.module[at].qubits - spare
                yield f"$.module[{at}].qubits", f"its factories take {taken} and leave none"
    for at, fault in enumerate(hardware.fault):
        for field, sentence in wrong(hardware, fault):
            yield f"$.fault[{at}].{field}", sentence


def wrong(hardware: Hardware, fault: Fault) -> Iterator[tuple[str, str]]:
    """Why this machine cannot have that fault: (field, sentence) for each reason."""
    kind, names = fault.kind, fault.what
    known = {each.name for each in hardware.module}
    wanted = _NAMES[kind]
    if len(names) != wanted:
        yield "what", f"a fault of kind {kind} names {('no module', 'a module', 'two')[wanted]}"
    elif strangers := [name for name in names if name not in known]:
        yield "what", f"no module is named {strangers[0]!r}"
    elif kind is FaultKind.LINK and not any(_same(link, names) for link in hardware.link):
        yield "what", f"no link joins {names[0]} and {names[1]}"
    elif kind is FaultKind.FACTORY and names[0] not in {each.module for each in hardware.factory}:
        yield "what", f"{names[0]} has no factory"
    if kind is FaultKind.DECODER and hardware.decoder_blocks is None:
        yield "kind", "the machine's decoder has no limit that could be lower"
    if kind is FaultKind.MODULE and fault.strength is not None:
        yield "strength", "a module fails whole; leave it out"
    if kind in (FaultKind.CALIBRATION, FaultKind.DECODER) and fault.strength is None:
        yield "strength", f"a fault of kind {kind} says how strong it is"
    if fault.to_cycle is not None and fault.to_cycle <= fault.from_cycle:
        yield "to_cycle", f"it is not after from_cycle, {fault.from_cycle}"


_NAMES: Final = {
    FaultKind.CALIBRATION: 0,
    FaultKind.MODULE: 1,
    FaultKind.LINK: 2,
    FaultKind.DECODER: 0,
    FaultKind.FACTORY: 1,
}

assert set(_NAMES) == set(FaultKind)


def _same(link: Link, names: Iterable[str]) -> bool:
    return frozenset(link.between) == frozenset(names)


def working(hardware: Hardware, faults: Iterable[Fault]) -> Hardware:
    """What is left of a machine under these faults: fewer links, slower ones, a slower decoder.

    Of several faults of one part the strongest counts. Failed modules are still in it, because
    physical qubits keep their numbers: `failed` names them. So are lost factories, with the time
    for a T state that stands for never.
    """
    worst: dict[tuple[FaultKind, frozenset[str]], float] = {}
    for fault in faults:
        part = fault.kind, frozenset(fault.what)
        worst[part] = max(worst.get(part, 1.0), fault.strength or NEVER_CYCLES)
    links = []
    for link in hardware.link:
        slower = worst.get((FaultKind.LINK, frozenset(link.between)), 1.0)
        if slower < NEVER_CYCLES:
            links.append(msgspec.structs.replace(link, cycles=link.cycles * slower))
    factories = []
    for made in hardware.factory:
        slower = worst.get((FaultKind.FACTORY, frozenset((made.module,))), 1.0)
        if (FaultKind.MODULE, frozenset((made.module,))) in worst:
            slower = NEVER_CYCLES
        cycles = min(NEVER_CYCLES, made.cycles * slower)
        factories.append(msgspec.structs.replace(made, cycles=cycles))
    blocks = hardware.decoder_blocks
    if blocks is not None:
        blocks = max(1, int(blocks / worst.get((FaultKind.DECODER, frozenset()), 1.0)))
    return msgspec.structs.replace(
        hardware, link=tuple(links), factory=tuple(factories), decoder_blocks=blocks
    )


def failed(hardware: Hardware, faults: Iterable[Fault]) -> frozenset[int]:
    """The modules, by number, that these faults leave nothing of."""
    names = {fault.what[0] for fault in faults if fault.kind is FaultKind.MODULE}
    return frozenset(at for at, each in enumerate(hardware.module) if each.name in names)
