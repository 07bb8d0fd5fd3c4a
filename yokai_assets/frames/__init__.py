"""From a folder of images or a video to the table of an episode's frames.

Finding episodes, reading pixels, judging frames, cutting shots, grouping near-duplicates. What is *in* a frame is
the matter of `yokai_assets.segmentation`.
"""
