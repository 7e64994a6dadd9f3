"""Whether predictions follow the clusters of the inputs."""

import numpy as np

from ..evidence import Evidence


def input_ami(evidence: Evidence) -> float:
    """Adjusted mutual information of predictions with clusters of the target's inputs: at most 1, 0 by chance.

    As many clusters as classes, of a crowd of target rows; see `evidence.clusters`. No training shapes the space of the
    inputs, so no model can flatter itself there, and a boundary across a cluster costs much, however few rows lie near
    it. Rewards classes that follow the target's own structure. Fails where clusters of inputs are not classes, as of
    word counts or digits on photographs, and where classes are swapped whole.

    References
    ----------
    Vinh, Epps & Bailey, JMLR 11, 2010 (AMI). Musgrave et al., Benchmarking Validation Methods for Unsupervised Domain
    Adaptation, CVPR 2024, uses it in the space of the features, which training shapes: "class-ami".
    """
    if evidence.crowd_clusters is None or evidence.crowd_classes is None:
        raise ValueError("input-ami needs clusters of the target's inputs: collect evidence with structure=True")
    return ami(evidence.crowd_classes, evidence.crowd_clusters)


def ami(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Return the adjusted mutual information of labels and clusters; 0 where either are all the same."""
    from sklearn.metrics import adjusted_mutual_info_score

    if min(len(np.unique(labels)), len(np.unique(clusters))) < 2:
        return 0.0
    return float(adjusted_mutual_info_score(labels, clusters))
