-- How much of each character there is: frames count with their near-duplicates, so they stand for screen time.
-- requires: characters, members, instances
CREATE VIEW character_screen_time AS
SELECT
    c.character_id,
    c.state,
    count(*)                     AS instance_count,
    sum(i.weight)::BIGINT        AS frame_count,
    count(DISTINCT i.episode)    AS episode_count,
    count(DISTINCT (i.episode, i.shot)) AS shot_count,
    min(i.episode)               AS first_episode,
    max(i.episode)               AS last_episode,
    avg(i.area_share)            AS mean_area_share
FROM characters AS c
JOIN members AS m USING (character_id)
JOIN instances AS i USING (instance_id)
GROUP BY c.character_id, c.state
ORDER BY frame_count DESC, c.character_id;
