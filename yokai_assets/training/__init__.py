"""LoRA training: a character's dataset in, kohya-format checkpoints out.

Here belong the base model's handle, buckets, content-keyed caches, the loop with exact resume, and the export.
Not here: which images are trained on (`datasets`), which checkpoint is best (`evaluation`), the final file with
its sidecars (`publishing`).
"""
