-- Tables and views that a person put or we put into the database, by name.
SELECT table_name FROM information_schema.tables WHERE table_schema = 'main' ORDER BY table_name;
