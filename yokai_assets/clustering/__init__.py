"""Finding groups of instances that show one character, and judging how good the groups are.

Vectors in, labels out: `series` keeps the table of groups, `clustering` finds them, `methods` is the exchangeable
way, `refinement` what is done to any method's groups, `joining` what new instances do until the next clustering,
`judging` the judgement. Which group is which character over time belongs to
`yokai_assets.registry`.
"""

from yokai_assets.clustering.clustering import Clustering, ClusteringError, cluster_instances
from yokai_assets.clustering.grouping import Grouping, GroupingMethod
from yokai_assets.clustering.judging import GroupJudgement, halves_of, judge_groups
from yokai_assets.clustering.methods import METHODS
from yokai_assets.clustering.series import SeriesGroups, update_groups

__all__ = [
    "METHODS",
    "Clustering",
    "ClusteringError",
    "GroupJudgement",
    "Grouping",
    "GroupingMethod",
    "SeriesGroups",
    "cluster_instances",
    "halves_of",
    "judge_groups",
    "update_groups",
]
