"""Whatever bytes come in, only documented refusals come out, and what is read is written back.

`targets/` says for every reader what must hold of any input; `corpus/` keeps inputs that between
them reach all that was ever reached, and a test gives them to all targets. `python -m tests.fuzz`
looks for more, led by coverage; it alone needs the extra `fuzz`.
"""
