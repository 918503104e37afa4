"""Random programs and errors on which engines are compared, and which engines can run them.

Nothing that serves jobs imports this. A program is a family and a seed, and stays what it is.
"""

from __future__ import annotations

import itertools
import json
import random
from typing import Final, NamedTuple

import msgspec

from qmkd.engine import engines
from qmkd.engine.noise import IDEAL, NoiseModel, PauliChannel, Uniform
from qmkd.engine.parts import cut
from qmkd.engine.prepared import Prepared
from qmkd.engine.primitives import primitives
from qvm.program import Step
from qvm.random_programs import Shape, shaped_program


class Depolarizing(msgspec.Struct, frozen=True):
    """Every Pauli but the identity, equally likely, after each operation; resets and fences too."""

    rate: float
    flip: float
    ideal: bool = False

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        if not step.op.startswith("MEASURE"):
            return ()
        return tuple(PauliChannel((qubit,), (("X", self.rate),)) for qubit in step.qubits)

    def after(self, step: Step) -> tuple[PauliChannel, ...]:
        if not 1 <= len(step.qubits) <= 2 or step.op in ("ALLOC_LQ", "FREE_LQ"):
            return ()
        letters = list(map("".join, itertools.product("IXYZ", repeat=len(step.qubits))))[1:]
        rate = self.rate / len(letters)
        return (PauliChannel(step.qubits, tuple((each, rate) for each in letters)),)

    def flips(self, step: Step) -> float:
        return self.flip


NOISES: Final[tuple[NoiseModel, ...]] = (
    IDEAL,
    Uniform(one=0.02, two=0.05, reset=0.1, readout=0.03),
    Depolarizing(0.05, 0.03),
)


class Family(NamedTuple):
    """Random programs of a kind.

    pauli_guards: guards are kept on Pauli operations only. programs: how many engines are compared
    on by default, and how many slowly. runs: how many are reference runs.
    """

    shape: Shape
    programs: tuple[int, int]
    runs: int
    pauli_guards: bool = False


_NARROW: Final = Shape(channels=True)
_TALL: Final = Shape(qubits_max=5, nodes_max=160, branchings_max=60, guards=0.5, channels=True)
_WIDE: Final = Shape(qubits_max=70, nodes_max=300, branchings_max=120, guards=0.2, channels=True)
_MAGIC: Final = Shape(qubits_max=6, magic=True, channels=True)
_ANGLES: Final = Shape(qubits_max=6, magic=True, angles=True)

FAMILIES: Final = {
    "narrow": Family(_NARROW, (900, 9000), 40),
    "Pauli guards": Family(_NARROW, (500, 5000), 40, pauli_guards=True),
    "tall": Family(_TALL, (150, 1500), 20),
    "wide": Family(_WIDE, (40, 400), 10),
    "wide, Pauli guards": Family(_WIDE, (40, 400), 20, pauli_guards=True),
    "magic": Family(_MAGIC, (260, 2600), 30),
    "angles": Family(_ANGLES, (110, 1100), 20),
}

assert sum(family.programs[0] for family in FAMILIES.values()) >= 2_000
assert sum(family.programs[1] for family in FAMILIES.values()) >= 20_000


def graph(family: Family, seed: int) -> bytes:
    """The program of that seed."""
    document = shaped_program(random.Random(seed), family.shape)
    if family.pauli_guards:
        for node in document["program"]["nodes"]:
            if node["op"] not in ("APPLY_X", "APPLY_Y", "APPLY_Z", "COND_PAULI", "FENCE_EPOCH"):
                node.pop("guard", None)
    return json.dumps(document).encode()


def capable(program: Prepared, noise: NoiseModel) -> list[str]:
    """Every engine that can run the whole program alone, and at the end the choice among all.

    Whether Stim can is asked of the program, and of the others whether they suit its parts.
    """
    shapes, _ = cut(primitives(program.lowered, noise), program.lowered.slots)
    makers = {name: suits for name, (suits, _) in engines.MAKERS.items()}
    able = [engines.TABLEAU] if program.summary.clifford else []
    able += [name for name, suits in makers.items() if all(map(suits, shapes))]
    assert all(any(suits(shape) for suits in makers.values()) for shape in shapes), shapes
    return [*able, "+".join(makers)]
