-- A table whose DDL or model changed is built anew.
DROP TABLE IF EXISTS $table;
