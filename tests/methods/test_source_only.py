import numpy as np

from dann import MLP, DomainAdapter, SourceOnly


def test_the_target_rows_do_not_matter_without_scaling(make_arrays):
    data, other = make_arrays(40, 24), make_arrays(40, 24, seed=5)
    settings = {"backbone": MLP(hidden=(8,)), "steps": 10, "batch_size": 8, "scaling": "none"}
    a, b = (DomainAdapter(SourceOnly(), **settings).fit(data.x, data.y, xt) for xt in (data.xt, other.xt * 100))
    np.testing.assert_allclose(a.predict_proba(data.x), b.predict_proba(data.x), atol=1e-6)


def test_it_learns_the_source(arrays):
    model = DomainAdapter("source-only", MLP(hidden=(8,)), steps=60, lr=0.02, batch_size=16)
    assert model.fit(arrays.x, arrays.y, arrays.xt).score(arrays.x, arrays.y) == 1
