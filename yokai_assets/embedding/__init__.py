"""Image and text vectors of one model, through open_clip.

`model` opens the model, `instances` embeds the cut-outs of a table. What vectors are used for belongs elsewhere.
"""
