"""Faults on purpose: killed processes, full disks, broken files; what is left must be what an undisturbed run leaves.

A sample runs with every `make test`; tests marked `faults` are the whole (`make faults`). Figures: docs/reliability.md.
"""
