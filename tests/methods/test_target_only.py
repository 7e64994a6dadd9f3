import numpy as np
import pytest
import torch

from dann import MLP, DomainAdapter, TargetOnly


def test_without_target_labels_it_is_refused(arrays):
    with pytest.raises(ValueError, match="none are known: give y_target"):
        DomainAdapter(TargetOnly(), steps=1).fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match="none are known"):
        DomainAdapter("target-only", steps=1).fit(arrays.x, arrays.y, arrays.xt, np.full(len(arrays.xt), -1))


def test_the_source_does_not_matter_to_an_oracle(arrays):
    settings = {"backbone": MLP(hidden=(8,)), "steps": 10, "batch_size": 8, "scaling": "none"}
    a, b = (
        DomainAdapter(TargetOnly(), **settings).fit(x, y, arrays.xt, arrays.yt)
        for x, y in ((arrays.x, arrays.y), (-9 * arrays.x, 1 - arrays.y))
    )
    np.testing.assert_array_equal(a.predict_proba(arrays.xt), b.predict_proba(arrays.xt))


def test_rows_without_a_known_label_add_nothing(arrays):
    some = np.where(np.arange(len(arrays.yt)) % 3 == 0, arrays.yt, -1)
    moved = np.where(some[:, None] < 0, 5 * arrays.xt, arrays.xt)
    settings = {"backbone": MLP(hidden=(8,)), "steps": 10, "batch_size": 8, "scaling": "none"}
    a, b = (DomainAdapter(TargetOnly(), **settings).fit(arrays.x, arrays.y, xt, some) for xt in (arrays.xt, moved))
    np.testing.assert_allclose(a.predict_proba(arrays.xt), b.predict_proba(arrays.xt), atol=1e-6)


def test_the_loss_is_the_cross_entropy_of_known_target_labels(sides):
    s = sides(TargetOnly())
    y = torch.cat([torch.zeros(6, dtype=torch.int64), torch.tensor([0, 1, 2, -1, 1, -1])])
    ((players, found),) = TargetOnly().moves(s.net, s.batch._replace(y=y, target_labelled=True), torch.tensor(0.5))
    known = torch.nn.functional.cross_entropy(s.target.logits[[0, 1, 2, 4]], y[[6, 7, 8, 10]])
    assert found == {"label": known}
    assert players == s.net.players


def test_it_says_that_it_is_an_oracle():
    assert TargetOnly.uses_target_labels
