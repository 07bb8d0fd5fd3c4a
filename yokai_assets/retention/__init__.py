"""What stays on disk: which layers, checkpoints and cache entries may go, removing them, and room for what comes.

`ledger` knows which layers were removed, `planning` names what may go and why, `applying` removes it, `forecast` says
what is still to be written, `room` whether it fits. What is still *needed* is known to the orchestration
(`yokai_assets.defs.operations.retaining`); making removed layers again is `yokai_assets.segmentation.restoring`.
"""
