-- The instances most similar to a known one, best first, without itself: FROM similar_instances('ep/000012/0').
-- Exact, over the whole table. `how_many`: rows, e.g. similar_instances('ep/000012/0', how_many := 50).
-- requires: embeddings, instances
CREATE OR REPLACE MACRO similar_instances(id, how_many := 20) AS TABLE (
    WITH asked AS (
        SELECT vector FROM embeddings WHERE instance_id = id
    )
    SELECT
        e.instance_id,
        e.episode,
        array_cosine_similarity(e.vector, asked.vector) AS cosine,
        i.cutout
    FROM embeddings AS e
    CROSS JOIN asked
    LEFT JOIN instances AS i USING (instance_id)
    WHERE e.instance_id <> id
    ORDER BY cosine DESC, e.instance_id
    LIMIT how_many
);
