"""The monitoring files against real programs: Prometheus, promtool, a daemon at work."""
