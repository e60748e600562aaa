"""Benchmarks: ours against peers and against what the machine can do, both sides in one run.

Run with `python -m bench`. It measures a running gateway from outside and the kernels from inside;
nothing in the product imports it.
"""
