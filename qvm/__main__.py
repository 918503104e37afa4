"""`python -m qvm`; the commands stand in `cli.py`."""

import signal

from qvm.cli import run

if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        # A reader that stops early, such as `head`, ends the command without a word.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    run()
