"""Many clients of many tenants at once: does anybody get wrong results, or see another's?

`python -m tests.tenants --clients 64 --tenants 8 --seconds 120`.
"""
