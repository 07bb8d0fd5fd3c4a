"""Where things lie and how they are written: the data root's layout, whole-or-absent files, Parquet, DuckDB.

What the data *means* belongs to the stages; column definitions belong to `yokai_assets.tables`.
"""
