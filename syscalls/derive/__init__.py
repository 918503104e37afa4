"""What is written elsewhere about the ABI, generated from its types.

`python -m syscalls.derive` writes everything; with `--check` it names what is stale instead.
The generators are pure; only `__main__` touches files.
"""
