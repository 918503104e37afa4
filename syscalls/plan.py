"""How the kernel means to run a program, and what it expects that to cost.

The figures are predictions from the program's own properties: they order jobs and bound memory, and
no result depends on them.
"""

from typing import Annotated

from msgspec import Meta, Struct

from syscalls.channel import ChannelTerms

PLAN_ROWS_MAX = 16
FIGURE_MAX = 2**53 - 1  # exact in a double; costs beyond it are given as it


class PlanRow(Struct, frozen=True, kw_only=True):
    """Parts of a program, entangled with nothing else, that one engine runs at about one cost."""

    engine: Annotated[str, Meta(description="Which engine runs them.")]
    parts: Annotated[int, Meta(description="How many parts there are of this kind.")]
    qubits: Annotated[int, Meta(description="Qubits of such a part alive at the same time.")]
    why: Annotated[str, Meta(description="Which property of the parts chose that engine.")]
    cpu_ns: Annotated[int, Meta(description="CPU time predicted, for all of them and all shots.")]
    bytes: Annotated[int, Meta(description="Memory predicted, for all of them together.")]


class PairsRow(Struct, frozen=True, kw_only=True):
    """Bell pairs of a program that are alike."""

    uses: Annotated[int, Meta(description="How many nodes consume one each, if guards hold.")]
    asked: Annotated[float, Meta(description="The fidelity asked for; 0 where nothing was.")]
    terms: ChannelTerms


class JobPlan(Struct, frozen=True, kw_only=True):
    """A plan for all shots of a program. The whole is more than its rows: reading the program,
    drawing, packing and counting come on top."""

    engine: Annotated[
        str, Meta(description="The engines that take part, joined by `+`; `tableau` runs it whole.")
    ]
    cpu_ns: Annotated[int, Meta(description="CPU time predicted, for all shots.")]
    bytes: Annotated[int, Meta(description="The most memory that a worker may need for it.")]
    rows: Annotated[
        list[PlanRow],
        Meta(description=f"The dearest first; beyond {PLAN_ROWS_MAX} taken together by engine."),
    ]
    pairs: Annotated[
        list[PairsRow],
        Meta(
            description="Bell pairs that a shot consumes between modules, those of most raw pairs "
            f"first, and {PLAN_ROWS_MAX} kinds at most; none where all is local."
        ),
    ] = []
    raw_pairs: Annotated[
        float, Meta(description="Mean number of raw pairs of a shot, if every guard holds.")
    ] = 0.0
