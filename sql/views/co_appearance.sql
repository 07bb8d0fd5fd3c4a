-- Pairs of characters in one picture, each pair once (first_id < second_id); frames count with their near-duplicates.
-- requires: members, instances
CREATE VIEW co_appearance AS
WITH seen AS (
    SELECT m.character_id, i.frame_id, i.episode, max(i.weight) AS weight
    FROM members AS m
    JOIN instances AS i USING (instance_id)
    GROUP BY m.character_id, i.frame_id, i.episode
)
SELECT
    a.character_id                        AS first_id,
    b.character_id                        AS second_id,
    sum(greatest(a.weight, b.weight))::BIGINT AS frame_count,
    count(DISTINCT a.episode)             AS episode_count
FROM seen AS a
JOIN seen AS b ON a.frame_id = b.frame_id AND a.character_id < b.character_id
GROUP BY a.character_id, b.character_id
ORDER BY frame_count DESC, first_id, second_id;
