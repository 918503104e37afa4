"""A fixed workload every night: has a machine changed, and does another model serve it better?

`night.py` runs one night and is the way in, `drift.py` judges residuals, `promotion.py` trains and
compares models, `page.py` draws the report. Nothing here reads a clock: a night is a number.
"""
