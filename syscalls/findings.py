"""A finding: one located remark about a program.

`qvm.verify` makes them; `InvalidGraph` and the warnings of an accepted job carry them to the
caller. No behaviour here.
"""

from typing import Literal

import msgspec

FINDINGS_MAX = 100  # findings one answer carries; the total is always given beside them


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One broken rule (`error`) or one thing worth knowing (`warning`), and where it stands.

    rule: the rule's stable name, for example `linear.use_after_free`.
    node: the id of the node concerned, or null where no single node is.
    path: where in the submitted graph, for example `$.program.nodes[3].vqs[0]`.
    message: what is wrong and what would be right, in a sentence.
    """

    rule: str
    severity: Literal["error", "warning"]
    node: str | None
    path: str
    message: str
