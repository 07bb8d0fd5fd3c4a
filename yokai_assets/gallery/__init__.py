"""The report at the end of the road: static pages that open from a disk, and `pipeline_results.json`.

Reads what the stages left behind and judges nothing itself. `load_gallery_data` reads, `build_gallery` and
`write_pipeline_results` write.
"""

from yokai_assets.gallery.build import build_gallery
from yokai_assets.gallery.data import GalleryData, StageTime, load_gallery_data
from yokai_assets.gallery.failures import FailureRecord, append_failures, open_failures
from yokai_assets.gallery.results import PipelineResults, pipeline_results_schema, write_pipeline_results

__all__ = [
    "FailureRecord",
    "GalleryData",
    "PipelineResults",
    "StageTime",
    "append_failures",
    "build_gallery",
    "load_gallery_data",
    "open_failures",
    "pipeline_results_schema",
    "write_pipeline_results",
]
