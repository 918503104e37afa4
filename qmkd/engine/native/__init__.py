"""The engines' inner loops, in C: one extension module per file, built by `setup.py`.

They work on buffers that they check and know nothing of programs. All arithmetic is on integers,
or on doubles in a written order without fused operations, so that every build gives the same bits.
"""
