"""`python -m qmkd.qec estimate`: one question on standard input, one answer on standard output.

Question and answer are JSON objects, as in `answers.py`. `calibrate` and `validate` are in
the files of these names, `count` is in `counting.py`; these are the only parts of this room that
read and write. Exit status: 0 an answer was given, a refusal included; 2 the command line is wrong.
"""

from __future__ import annotations

import sys

import msgspec

from qmkd.qec.answers import answer
from qmkd.qec.data import calibration
from qmkd.qec.resources import FirstThatKnows, PublishedLaw
from qmkd.qec.table_rates import TableRates

QUESTION_BYTES_MAX = 1 << 20


def main(arguments: list[str]) -> int:
    # What measures loads decoders, which an estimate does without.
    if arguments[:1] == ["calibrate"]:
        from qmkd.qec.calibrate import main as calibrate

        return calibrate(arguments[1:])
    if arguments[:1] == ["count"]:
        from qmkd.qec.counting import main as count

        return count(arguments[1:])
    if arguments[:1] == ["validate"]:
        from qmkd.qec.validate import main as validate

        return validate(arguments[1:])
    if arguments != ["estimate"]:
        sys.stderr.write("usage: python -m qmkd.qec estimate < QUESTION.json\n")
        sys.stderr.write("       python -m qmkd.qec calibrate --out TABLE\n")
        sys.stderr.write("       python -m qmkd.qec count --out COUNTS\n")
        sys.stderr.write("       python -m qmkd.qec validate --out ROWS\n")
        return 2
    raw = sys.stdin.buffer.read(QUESTION_BYTES_MAX + 1)
    rates = FirstThatKnows((TableRates(table=calibration()), PublishedLaw()))
    found = answer(raw, rates)
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
