"""What people read at the end: the catalog in DuckDB, the gallery in HTML, the results in JSON."""
