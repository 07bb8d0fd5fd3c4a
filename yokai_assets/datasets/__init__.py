"""Training sets: which of a character's images are trained on, how they are rendered, and how they lie on disk.

Here belong the choice (`selection`, `split`), pixels (`render`), files (`kohya`), their sequence (`build`) and the
importer of existing cluster folders. Captions are `yokai_assets.captioning`, training is `yokai_assets.training`.
"""

from yokai_assets.datasets.build import DatasetResult, build_dataset, load_training_image
from yokai_assets.datasets.importer import ImportResult, import_cluster_tree

__all__ = ["DatasetResult", "ImportResult", "build_dataset", "import_cluster_tree", "load_training_image"]
