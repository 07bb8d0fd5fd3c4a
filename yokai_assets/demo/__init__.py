"""The demo: a procedural cartoon series, the small models that understand it, and how they were trained.

Here belongs whatever exists only so that the whole platform runs offline on a laptop. Not here: anything
that a real series needs.
"""
