"""How the demo's small models were made: data, architectures, training loops, exporters; seeded and resumable.

Here belongs what makes the files in `yokai_assets/demo/models/`. Not here: the training of LoRAs for characters
(:mod:`yokai_assets.training`), and nothing that the platform needs at run time.
"""
