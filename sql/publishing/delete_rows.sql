-- Every row of a table that is one file.
DELETE FROM $table;
