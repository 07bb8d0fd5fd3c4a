-- Instances most similar to a vector, best first. Exact, over the whole table.
-- $dimension: width of the vectors. Parameters: the query vector (list of floats), how many rows.
SELECT
    instance_id,
    episode,
    array_cosine_similarity(vector, ?::FLOAT[$dimension]) AS cosine
FROM embeddings
ORDER BY cosine DESC, instance_id
LIMIT ?;
