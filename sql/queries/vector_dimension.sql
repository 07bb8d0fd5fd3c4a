-- Type of the published vectors, e.g. FLOAT[512].
SELECT data_type
FROM information_schema.columns
WHERE table_schema = 'main' AND table_name = 'embeddings' AND column_name = 'vector';
