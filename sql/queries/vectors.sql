-- Every published vector with its frame, in a fixed order: what the clustering reads.
SELECT
    embeddings.instance_id,
    instances.frame_id,
    embeddings.episode,
    embeddings.cutout_sha256,
    embeddings.model_fingerprint,
    embeddings.vector
FROM embeddings
JOIN instances USING (instance_id)
ORDER BY embeddings.instance_id;
