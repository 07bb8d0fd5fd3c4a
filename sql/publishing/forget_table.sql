-- Parameter: the table's name.
DELETE FROM published_tables WHERE table_name = ?;
