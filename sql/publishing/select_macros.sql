-- Table macros that we put into the database, by name.
SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal AND function_type = 'table_macro';
