"""Errors of the Bell pairs that a program consumes, beside those of the noise that it runs under.

A pair is phi+ with an X, Y or Z on one half, with the chances that the kernel has accounted for it
(`qvm/channels.py`); on which half does not matter, as (P x 1) phi+ = (1 x P) phi+ up to sign. What
becomes of the error follows from how the pair is used:

- A state that is teleported comes out with that Pauli on it (Bennett et al., Phys. Rev. Lett. 70,
  1895 (1993)): the receiver corrects his half by the Paulis that the sender's two bits name, and
  an error that was there before is there, up to sign, behind them.
- The non-local CNOT of Eisert et al., arXiv:quant-ph/0005101: a CNOT from the control onto the near
  half, which is measured in Z, and X on the far half where that gave 1; a CNOT from the far half
  onto the target; the far half is measured in X, and Z on the control where that gave 1. An X on
  the far half makes it the complement of the control, so the target is flipped once more: X on the
  target. A Z on the far half is on the control side of that CNOT, passes it and turns the outcome
  in X: Z on the control. Y is both.

Both hold whatever the operands are entangled with, so the engines apply them behind the operation
as it is without a pair (`qvm/lower.py`). Where a guard does not hold, no pair is consumed and
nothing errs.
"""

from __future__ import annotations

import hashlib
from typing import Final, Generic, TypeVar

import msgspec

from qmkd.core.ports import PairError
from qmkd.engine.noise import Histories, NoiseModel, PauliChannel, Remembering, Told
from qvm.program import Lowered, Step

Model = TypeVar("Model", bound=NoiseModel)

BEHIND: Final[dict[str, tuple[slice, tuple[str, str, str]]]] = {
    "TELEPORT_CNOT": (slice(0, 2), ("IX", "ZX", "ZI")),
    "APPLY_CNOT": (slice(0, 2), ("IX", "ZX", "ZI")),
    "APPLY_SWAP": (slice(1, 2), ("X", "Y", "Z")),
    "BAR_REGION": (slice(0, 1), ("X", "Y", "Z")),
}
"""By the last of the steps that a node comes to: the operands that err, and how for X, Y and Z of
the pair. SWAP and BAR_REGION end the teleport of a state, to the second operand or in place."""


def paired(model: NoiseModel, lowered: Lowered, pairs: tuple[PairError, ...]) -> NoiseModel:
    """The model with the errors of these pairs, behind its own."""
    if not pairs:
        return model
    if isinstance(model, Remembering):
        return PairedRemembering(model, lowered, pairs)
    return Paired(model, lowered, pairs)


class Paired(Generic[Model]):
    """A noise model, and errors of pairs behind what it has after the steps that consume them."""

    ideal = False

    def __init__(self, model: Model, lowered: Lowered, pairs: tuple[PairError, ...]) -> None:
        last = {step.node: step for step in lowered.steps}
        self.model = model
        self.pairs = pairs
        self._behind = {id(last[each.node]): _channel(last[each.node], each) for each in pairs}
        self._steps = lowered.steps  # keeps the ids good

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Paired) and (self.model, self.pairs) == (other.model, other.pairs)

    def __hash__(self) -> int:
        return hash((self.model, self.pairs))

    def __repr__(self) -> str:
        digest = hashlib.sha256(msgspec.json.encode(self.pairs)).hexdigest()
        return f"{self.model!r} with pairs {digest}"

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        return self.model.before(step)

    def after(self, step: Step) -> tuple[PauliChannel, ...]:
        found = self._behind.get(id(step))
        after = self.model.after(step)
        return after if found is None else (*after, found)

    def flips(self, step: Step) -> float:
        return self.model.flips(step)


class PairedRemembering(Paired[Remembering]):
    """The same where the model remembers."""

    @property
    def keeps(self) -> bool:
        return self.model.keeps

    @property
    def length(self) -> int:
        return self.model.length

    def begun(self, step: Step) -> tuple[tuple[Histories, int], ...]:
        return self.model.begun(step)

    def told(self, step: Step) -> tuple[Told, ...]:
        return self.model.told(step)


def _channel(step: Step, pair: PairError) -> PauliChannel:
    operands, letters = BEHIND[step.op]
    return PauliChannel(
        step.qubits[operands], tuple(zip(letters, (pair.x, pair.y, pair.z), strict=True))
    )
