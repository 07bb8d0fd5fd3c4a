"""From frames to layers: characters cut out of their frames, and the backgrounds behind them.

Whose character it is, is found out later, in `yokai_assets.embedding` and `yokai_assets.clustering`.
"""
