"""`python systemd/derive.py`: manual pages and completion scripts, from the command lines.

They are committed, so that installing needs neither library; `--check` says which are stale.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import shtab  # noqa: E402
from argparse_manpage.manpage import Manpage  # noqa: E402

from qmkd.__main__ import parser as qmkd_parser  # noqa: E402
from runtime.attest.__main__ import parser as attest_parser  # noqa: E402
from runtime.ctl.__main__ import parser as qmkctl_parser  # noqa: E402
from runtime.signer.__main__ import parser as signer_parser  # noqa: E402

SECTIONS = {"qmkd": 8, "qmkctl": 1, "qmk-signer": 8, "qmk-attest": 8}
ABOUT = {
    "qmkd": "run a quantum machine",
    "qmkctl": "run programs on a quantum machine",
    "qmk-attest": "sign manifests of a quantum machine's jobs, and keep its ledger",
    "qmk-signer": "hold the keys of a quantum machine, and sign with them",
}
SEE_ALSO = {
    "qmkd": "qmkctl(1), systemd.service(5)",
    "qmkctl": "qmkd(8), qmk-signer(8)",
    "qmk-signer": "qmkctl(1), systemd.service(5)",
    "qmk-attest": "qmkctl(1), qmk-signer(8)",
}
FILES = {
    "qmkd": {
        "/etc/qmk/qmkd.toml": "The configuration of the system's daemon.",
        "~/.config/qmk/qmkd.toml": "That of a user's own.",
        "/run/qmk/qsyscall.sock": "Where the system's daemon listens.",
        "/var/lib/qmkd": "What outlives it.",
    },
    "qmkctl": {
        "/run/qmk/qsyscall.sock": "The system's daemon.",
        "$XDG_RUNTIME_DIR/qmk/qsyscall.sock": "The user's own, looked for first.",
        "$XDG_RUNTIME_DIR/qmkctl": "Sessions that are kept from one command to the next.",
    },
    "qmk-attest": {
        "/run/qmk-attest/attest.sock": "Where it answers.",
        "/var/lib/qmk-attest": "Its database, manifests and the ledger's files.",
    },
    "qmk-signer": {
        "/etc/qmk/signer.toml": "The token, and who may do what with which key.",
        "/etc/qmk/signer-pin": "The token's PIN, for root alone; systemd hands it over.",
        "/run/qmk-signer/signer.sock": "Where the signer listens.",
        "/var/lib/qmk-signer": "Records of keys, and what was done with them.",
    },
}


def derived() -> dict[Path, str]:
    """Every file and its text."""
    # Widths of help texts must not depend on the terminal.
    os.environ["COLUMNS"] = "80"
    parsers = {
        "qmkd": qmkd_parser(),
        "qmkctl": qmkctl_parser(),
        "qmk-signer": signer_parser(),
        "qmk-attest": attest_parser(),
    }
    files = {
        HERE / "man" / f"{name}.{SECTIONS[name]}": manual(name, each)
        for name, each in parsers.items()
    }
    for shell in ("bash", "zsh"):
        script = shtab.complete(parsers["qmkctl"], shell)
        files[HERE / "completion" / f"qmkctl.{shell}"] = script.rstrip() + "\n"
    return files


def manual(name: str, parser: argparse.ArgumentParser) -> str:
    """The page, in troff."""
    parser.man_short_description = ABOUT[name]  # type: ignore[attr-defined]
    data = {
        "project_name": "qmkd",
        "version": "",
        "manual_section": SECTIONS[name],
        "manual_title": "Quantum microkernel",
        "prog": name,
        "format": "pretty",
        # Not the day on which it was made, or it would be stale on the next.
        "date": "2026",
    }
    page = str(Manpage(parser, data, format="pretty"))
    rows = "".join(f".TP\n\\fI{path}\\fR\n{what}\n" for path, what in FILES[name].items())
    page = page.rstrip() + f'\n\n.SH FILES\n{rows}\n.SH "SEE ALSO"\n{SEE_ALSO[name]}\n'
    return re.sub(r"[ \t]+$", "", page, flags=re.MULTILINE)


def stale() -> list[str]:
    """Files that are not what they would be now."""
    return [
        str(path.relative_to(HERE.parent))
        for path, text in derived().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="say which are stale, write nothing")
    if parser.parse_args(arguments).check:
        for name in stale():
            print(f"stale: {name}")
        return bool(stale())
    for path, text in derived().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
