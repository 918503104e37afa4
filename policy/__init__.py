"""The policy engine: which error mitigation a circuit should get on a backend, and what it brings.

`api.py` is what is asked and answered, `rules.py` the safe rules that need no training,
`forests.py` and `models.py` trained forests as arrays, `engine.py` both together. `training.py`
makes models from records of runs; it alone needs scikit-learn. `python -m policy` serves
(docs/policy.md). User mode: the kernel knows nothing of it.
"""
