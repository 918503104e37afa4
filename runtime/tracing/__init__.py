"""Exports the daemon's spans: takes them from its `traces_socket`, hands them on by OTLP/HTTP.

A process of its own, without privilege, so that the daemon neither loads OpenTelemetry nor waits
for a collector. It reads no faster than the collector takes; what then finds no room is dropped by
the daemon, which counts it. `inbox.py` is the socket, `otlp.py` speaks with the SDK, `__main__.py`
is the program: `python -m runtime.tracing --help`. What a span is stands in `syscalls/tracing.py`.
"""
