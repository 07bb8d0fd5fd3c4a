-- Vectors of one episode. Parameter: the episode.
SELECT
    instance_id,
    vector
FROM embeddings
WHERE episode = ?;
