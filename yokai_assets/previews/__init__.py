"""Pictures for people: contact sheets, small charts, and their encoding for metadata and reports.

Drawing and encoding only. Which images or numbers are worth showing is decided by the stages.
"""

from yokai_assets.previews.charts import bar_chart, histogram, line_chart
from yokai_assets.previews.encode import encode_preview, markdown_image
from yokai_assets.previews.sheets import contact_sheet

__all__ = ["bar_chart", "contact_sheet", "encode_preview", "histogram", "line_chart", "markdown_image"]
