"""Training sets: which of a character's images are trained on, how they are rendered, and how they lie on disk.

Here belong the choice (`selection`, `split`, `looks`, `choice`), what is behind the character (`grounds`), pixels
(`render`, `writing`), files (`kohya`), what people change by hand (`edits`), their sequence (`build`), the importer
of existing cluster folders, and the reader of folders of training images, ours or not (`folder`). Captions are
`yokai_assets.captioning`, training is `yokai_assets.training`.
"""

from yokai_assets.datasets.build import DatasetResult, build_dataset, changes_between, load_training_image
from yokai_assets.datasets.choice import Knowledge
from yokai_assets.datasets.edits import EditsError, HandEdits, collect_edits, edits_fingerprint, read_edits
from yokai_assets.datasets.importer import ImportResult, import_cluster_tree

__all__ = [
    "DatasetResult",
    "EditsError",
    "HandEdits",
    "ImportResult",
    "Knowledge",
    "build_dataset",
    "changes_between",
    "collect_edits",
    "edits_fingerprint",
    "import_cluster_tree",
    "load_training_image",
    "read_edits",
]
