-- Pictures that come back, most episodes first: openings, endings, recaps, stock shots.
-- requires: repeats
CREATE VIEW repeated_pictures AS
SELECT
    repeat_of                AS first_frame_id,
    count(DISTINCT episode)  AS episode_count,
    count(*)                 AS time_count,
    sum(frame_count)::BIGINT AS frame_count
FROM repeats
GROUP BY repeat_of
ORDER BY episode_count DESC, frame_count DESC, first_frame_id;
