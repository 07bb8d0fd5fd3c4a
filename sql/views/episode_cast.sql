-- Who is in which episode, how much, and from which frame on.
-- requires: members, instances
CREATE VIEW episode_cast AS
SELECT
    i.episode,
    m.character_id,
    count(*)              AS instance_count,
    sum(i.weight)::BIGINT AS frame_count,
    min(i.frame_index)    AS first_frame_index,
    max(i.frame_index)    AS last_frame_index
FROM members AS m
JOIN instances AS i USING (instance_id)
GROUP BY i.episode, m.character_id
ORDER BY i.episode, frame_count DESC, m.character_id;
