"""Finding groups of instances that show one character, and judging how good the groups are.

Vectors in, labels out: `clustering` is the entry, `methods` the exchangeable way groups are found, `refinement` what
is done to any method's groups, `quality` the judgement. Which group is which character over time belongs to
`yokai_assets.registry`.
"""

from yokai_assets.clustering.clustering import Clustering, ClusteringError, cluster_instances
from yokai_assets.clustering.grouping import Grouping, GroupingMethod
from yokai_assets.clustering.methods import METHODS
from yokai_assets.clustering.quality import ClusterQuality, assess_clustering

__all__ = [
    "METHODS",
    "ClusterQuality",
    "Clustering",
    "ClusteringError",
    "Grouping",
    "GroupingMethod",
    "assess_clustering",
    "cluster_instances",
]
