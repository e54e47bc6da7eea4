"""Confusion analysis: which labels a model mixes up, why, and what to do about it.

    from newsie.confusion import analyse

    found = analyse(labels, probabilities, gold)
    found.matrix.most_confused(5), found.overlap.pairs, found.pairs[0].advice.sentence

Works on the probabilities of any classifier. Needs `pip install '.[analysis]'`.
"""

from newsie.confusion.analysis import Analysis, analyse
from newsie.confusion.clusters import Clusters, cluster_labels
from newsie.confusion.comparison import Comparison, compare
from newsie.confusion.groups import Groups, compare_groups
from newsie.confusion.label_issues import Suspects, find_suspects
from newsie.confusion.matrix import ConfusionMatrix
from newsie.confusion.overlap import Overlap, find_overlap
from newsie.confusion.pairs import LabelPair
from newsie.confusion.predictions import Answers, read_answers
from newsie.confusion.reliability import Calibration, calibration, find_threshold
from newsie.confusion.soft import SoftConfusion, soft_confusion
from newsie.confusion.summary import summarise

__all__ = [
    "Analysis",
    "Answers",
    "Calibration",
    "Clusters",
    "Comparison",
    "ConfusionMatrix",
    "Groups",
    "LabelPair",
    "Overlap",
    "SoftConfusion",
    "Suspects",
    "analyse",
    "calibration",
    "cluster_labels",
    "compare",
    "compare_groups",
    "find_overlap",
    "find_suspects",
    "find_threshold",
    "read_answers",
    "soft_confusion",
    "summarise",
]
