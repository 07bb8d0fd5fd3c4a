-- How tight each living character is and which other one is nearest to it (cosine of centroids of one model).
-- requires: characters, members
CREATE VIEW cluster_quality AS
WITH living AS (
    SELECT character_id, state, member_count, centroid, model_fingerprint
    FROM characters
    WHERE state <> 'retired'
),
cohesion AS (
    SELECT
        character_id,
        avg(centroid_cosine)                 AS mean_centroid_cosine,
        quantile_cont(centroid_cosine, 0.05) AS low_centroid_cosine,
        avg(probability)                     AS mean_probability
    FROM members
    GROUP BY character_id
),
nearest AS (
    SELECT
        a.character_id,
        max_by(b.character_id, list_cosine_similarity(a.centroid, b.centroid)) AS nearest_id,
        max(list_cosine_similarity(a.centroid, b.centroid))                    AS nearest_cosine
    FROM living AS a
    JOIN living AS b
        ON a.character_id <> b.character_id
        AND a.model_fingerprint = b.model_fingerprint
    GROUP BY a.character_id
)
SELECT
    l.character_id,
    l.state,
    l.member_count,
    c.mean_centroid_cosine,
    c.low_centroid_cosine,
    c.mean_probability,
    n.nearest_id,
    n.nearest_cosine
FROM living AS l
LEFT JOIN cohesion AS c USING (character_id)
LEFT JOIN nearest AS n USING (character_id)
ORDER BY l.character_id;
