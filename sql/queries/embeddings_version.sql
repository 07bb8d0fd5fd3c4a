-- A version of the vectors that the clustering reads: equal content, equal version, in whatever order it was written.
-- Pixels and model determine a vector, so their hashes stand for it.
SELECT
    count(*) AS row_count,
    coalesce(bit_xor(hash(instance_id, cutout_sha256, model_fingerprint)), 0) AS content
FROM embeddings
JOIN instances USING (instance_id, cutout_sha256);
