"""`qmkctl results`: the results of a job that is over, and what decoders knew of its shots."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table

from runtime.client.results import DecoderData, Result
from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, print_json

HELP = "show the results of a job that is over, or write them to a file"
FORMATS = (".npy", ".csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument(
        "--decoder",
        action="store_true",
        help="what decoders knew of each shot, of a job that kept it, in place of its events",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help=f"write every shot to a file, {' or '.join(FORMATS)}; absent events are 255",
    )
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    out: Path | None = options.out
    if out is not None and out.suffix not in FORMATS:
        raise Trouble(Exit.USAGE, f"--out writes {' or '.join(FORMATS)}, not {out.suffix!r}.")
    with common.client_of(options) as client:
        result = client.job(options.job).wait()
        if out is not None:
            _write(result, out, decoder=options.decoder)
        elif options.decoder:
            _show(result.decoder_data, as_json=options.json)
        elif options.json:
            print_json(result.status)
        else:
            result.probabilities or result.counts  # noqa: B018 - counted here where left out
            console().print(result)
    return Exit.OK


def _write(result: Result, out: Path, *, decoder: bool) -> None:
    import numpy as np

    table: Any = result.decoder_data if decoder else result.samples
    if out.suffix == ".npy":
        np.save(out, table)
        return
    names = table.dtype.names if decoder else result.event_names
    with out.open("w", encoding="utf-8") as file:
        file.write(",".join(names) + "\n")
        file.writelines(",".join(map(str, row)) + "\n" for row in table.tolist())


def _show(data: DecoderData, *, as_json: bool) -> None:
    """Shots by how sure decoders were of them, and how many of these they got wrong."""
    rows = _by_gap(data)
    if as_json:
        print_json({"shots": len(data), "by_gap": rows})
        return
    table = Table(title=f"{len(data)} shots", title_justify="left")
    for name in ("gap, nats", "shots", "left wrong", "undecoded"):
        table.add_column(name, justify="right")
    for row in rows:
        low, high = row["gap_least"], row["gap_below"]
        told = "no gap" if low is None else f"{low:g} up to {high:g}" if high else f"{low:g} on"
        table.add_row(told, *(str(row[name]) for name in ("shots", "wrong", "undecoded")))
    console().print(table)


def _by_gap(data: DecoderData) -> list[dict[str, Any]]:
    """Of each range of gaps how many shots there are, wrong ones and undecoded ones among them."""
    import numpy as np

    gap: Any = data["gap"]
    edges = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    ranges: list[tuple[float | None, float | None, Any]] = [
        (low, high, (gap >= low) & (gap < high))
        for low, high in zip(edges, [*edges[1:], np.inf], strict=True)
    ]
    ranges += [(None, None, ~np.isfinite(gap))]
    return [
        {
            "gap_least": low,
            "gap_below": None if high is None or np.isinf(high) else high,
            "shots": int(those.sum()),
            "wrong": int((data["flips"][those] > 0).sum()),
            "undecoded": int((data["undecoded"][those] > 0).sum()),
        }
        for low, high, those in ranges
        if those.any()
    ]
