-- Every published vector that the clustering reads, without the vector itself, in a fixed order.
-- A vector of pixels that are no more (the cut-out was made again, its vector was not) is left out.
SELECT
    embeddings.instance_id,
    instances.frame_id,
    instances.episode || '/' || instances.shot AS shot,
    embeddings.episode,
    embeddings.cutout_sha256,
    embeddings.model_fingerprint
FROM embeddings
JOIN instances USING (instance_id, cutout_sha256)
ORDER BY embeddings.instance_id;
