"""The command `yokai`: options in, settings and calls out, pictures of progress on the terminal.

No stage's logic belongs here, and no Dagster: runs are started through `yokai_assets.defs.operations`.
"""
