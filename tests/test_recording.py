import gc
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from dann.recording import _own_function, _Tape, agrees, captured, record


def recorded(function, *inputs, constants=()):
    """Record a function on some inputs; return the recording."""
    return record(function, inputs, constants)[1]


def test_the_first_call_is_the_functions_own():
    (total,), _ = record(lambda x: (x.sum(),), [torch.arange(3.0)])
    assert total == 3


def test_it_repeats_the_operations_on_other_inputs():
    run = recorded(lambda x, y: (x * y, (x - y).sum()), torch.randn(3), torch.randn(3))
    product, difference = run(torch.tensor([1.0, 2, 3]), torch.tensor([4.0, 5, 6]))
    assert (product.tolist(), difference.item()) == ([4, 10, 18], -9)


def test_gradients_are_part_of_it():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def gradients(x, y):
        return torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))

    run = recorded(gradients, torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1]))
    x, y = torch.randn(5, 3), torch.tensor([1, 1, 0, 0, 0])
    for mine, expected in zip(run(x, y), gradients(x, y), strict=True):
        assert torch.equal(mine, expected)
        assert not mine.requires_grad


def test_tensors_outside_change_in_place():
    counter, average = torch.zeros(()), nn.BatchNorm1d(2)

    def step(x):
        counter.add_(1)
        return (average(x).mean() * counter,)

    run = recorded(step, torch.randn(4, 2))
    mean = average.running_mean.clone()
    run(torch.full((4, 2), 100.0))
    assert counter == 2
    assert average.num_batches_tracked == 2
    assert torch.allclose(average.running_mean, 0.9 * mean + 10)


def test_what_is_filled_outside_reaches_it():
    rate = torch.tensor(1.0)
    run = recorded(lambda x: (x * rate,), torch.ones(1))
    rate.fill_(5)
    assert run(torch.ones(1))[0] == 5


def test_random_numbers_are_drawn_anew():
    dropout = nn.Dropout(0.5)
    torch.manual_seed(0)
    run = recorded(lambda x: (dropout(x),), torch.ones(100))
    drawn = run(torch.ones(100))[0]
    torch.manual_seed(0)
    expected = [dropout(torch.ones(100)) for _ in range(2)][1]
    assert torch.equal(drawn, expected)
    assert not torch.equal(drawn, run(torch.ones(100))[0])


def test_tensors_made_from_numbers_are_made_anew():
    def total(x):
        sums = torch.tensor(0.0)
        sums += x.sum()
        return (sums,)

    run = recorded(total, torch.ones(2))
    assert [run(torch.ones(2))[0].item() for _ in range(3)] == [2, 2, 2]


def test_statistics_are_kept_where_the_results_are_not():
    norm = nn.BatchNorm1d(2)

    def seen(x):
        norm(x)
        return (x.sum(),)

    run = recorded(seen, torch.randn(4, 2))
    mean = norm.running_mean.clone()
    run(torch.full((4, 2), 100.0))
    assert torch.allclose(norm.running_mean, 0.9 * mean + 10)


def test_random_numbers_are_drawn_where_nobody_uses_them():
    def drawn(x):
        torch.rand(3)
        return (x + torch.rand(1),)

    torch.manual_seed(0)
    run = recorded(drawn, torch.zeros(1))
    found = run(torch.zeros(1))[0]
    torch.manual_seed(0)
    expected = [drawn(torch.zeros(1))[0] for _ in range(2)][1]
    assert torch.equal(found, expected)


def test_a_generator_of_ones_own_is_no_part_of_a_recording():
    generator = torch.Generator().manual_seed(0)
    with pytest.warns(UserWarning, match="or on a generator"):
        assert record(lambda x: (x + torch.randn(1, generator=generator),), [torch.ones(1)])[1] is None


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.PCG64, np.random.Philox])
def test_draws_of_numpys_generator_are_seen_whatever_its_kind(kind):
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(kind(0))
    try:
        assert recorded(lambda x: (x + 1,), torch.ones(1)) is not None
        with pytest.warns(UserWarning, match="random numbers of Python or NumPy would stay as they were"):
            assert recorded(lambda x: (x + np.random.uniform(),), torch.ones(1)) is None  # noqa: NPY002
    finally:
        np.random.set_bit_generator(before)


def operations(run, *inputs):
    """Names of the operations of a recording."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run(*inputs)
    return {event.key for event in seen.key_averages()}


def test_what_follows_from_constants_alone_is_not_computed_again():
    domain = torch.tensor([0, 0, 1])

    def share(x):
        return (x * (1 / (domain[:, None] == torch.arange(2)).sum(0))[domain],)

    x = torch.randn(3)
    once, again = recorded(share, torch.ones(3), constants=[domain]), recorded(share, torch.ones(3))
    assert torch.equal(once(x)[0], share(x)[0])
    assert torch.equal(again(x)[0], share(x)[0])
    assert "aten::eq" in operations(again, x)
    assert "aten::eq" not in operations(once, x)


def test_new_tensors_that_are_written_to_are_no_constants():
    def total(x):
        sums = torch.zeros(2)
        sums[0] += x.sum()
        return (sums,)

    run = recorded(total, torch.ones(3))
    assert [run(torch.ones(3))[0].tolist() for _ in range(2)] == [[3, 0], [3, 0]]


def test_ones_are_not_made_anew_unless_they_are_written_to():
    def kept(x):
        return (torch.ones_like(x) * x,)

    def written(x):
        return (torch.ones_like(x).add_(x),)

    x = torch.ones(3)
    assert "aten::ones_like" not in operations(recorded(kept, x), x)
    run = recorded(written, x)
    assert [run(x)[0].tolist() for _ in range(2)] == [[2, 2, 2], [2, 2, 2]]


def test_results_may_be_written_to_and_take_part_in_gradients():
    run = recorded(lambda x: (x * 2,), torch.ones(2))
    (result,) = run(torch.ones(2))
    result += 1
    weight = torch.ones(2, requires_grad=True)
    (result * weight).sum().backward()
    assert weight.grad.tolist() == [3, 3]


def test_a_function_of_the_same_name_is_taken_only_if_it_does_the_same(monkeypatch):
    calls = []
    monkeypatch.setattr("dann.recording._own_function", lambda *call: calls.append(_own_function(*call)) or calls[-1])
    recorded(lambda x: (x.mul(x).sum(0, keepdim=True),), torch.ones(2))
    assert calls == [torch.mul, torch.sum]
    calls.clear()
    monkeypatch.setattr(torch, "mul", torch.add)
    run = recorded(lambda x: (x.mul(x),), torch.full((2,), 3.0))
    assert calls == [torch.ops.aten.mul.Tensor]
    assert run(torch.full((2,), 3.0))[0].tolist() == [9, 9]


def test_a_recording_calls_pytorchs_functions_in_inference_mode(monkeypatch):
    run, seen, mul = recorded(lambda x: (x.mul(x),), torch.ones(2)), [], torch.mul
    monkeypatch.setattr(torch, "mul", lambda *args: seen.append(torch.is_inference_mode_enabled()) or mul(*args))
    run(torch.ones(2))
    assert seen == [True]


def test_functions_are_builtin_and_take_the_same_arguments():
    x, aten = torch.randn(4, 3), torch.ops.aten
    assert _own_function(aten.view.default, (x, [12]), {}) is torch.Tensor.view
    assert _own_function(aten.split.Tensor, (x, 2), {}) is aten.split.Tensor  # torch.split is of Python
    for given in ({}, {"memory_format": torch.contiguous_format}):  # torch.empty_like adds pin_memory
        assert _own_function(aten.empty_like.default, (x,), given) is aten.empty_like.default


def test_functions_are_found_for_weights_too_and_not_where_they_take_other_arguments(monkeypatch):
    x, aten = torch.ones(2), torch.ops.aten
    weight = torch.ones(2, requires_grad=True)
    assert _own_function(aten.add_.Tensor, (weight, x), {}) is torch.Tensor.add_
    assert weight.tolist() == [1, 1]
    monkeypatch.setattr(torch, "mul", len)
    assert _own_function(aten.mul.Tensor, (x, x), {}) is aten.mul.Tensor


def test_a_random_state_that_is_set_is_no_part_of_a_recording():
    weight = torch.ones(3, requires_grad=True)

    def twice(x):  # the backward pass sets the state back, to drop the same units
        hidden = checkpoint(lambda x: F.dropout(x * weight, 0.5), x, use_reentrant=False)
        return torch.autograd.grad(hidden.sum(), [weight])

    with pytest.warns(UserWarning, match="not compiled: .*the state of random numbers is set"):
        assert recorded(twice, torch.ones(3)) is None


def test_looking_for_functions_does_nothing_else():
    weight = torch.zeros(3, requires_grad=True)

    def step(x):
        with torch.no_grad():
            weight.add_(torch.bernoulli(x))
        return (weight.sum(),)

    x = torch.full((3,), 0.5)
    torch.manual_seed(0)
    step(x)
    plain, state = weight.detach().clone(), torch.get_rng_state()
    weight.data.zero_()
    torch.manual_seed(0)
    recorded(step, x)
    assert torch.equal(weight, plain)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "reads",
    [
        lambda x: (x * x.max().item(),),
        lambda x: (x * x.tolist()[0],),
        lambda x: (x if x.sum() > 0 else -x,),
        lambda x: (x[x > 0],),
        lambda x: (x * float(x.numpy().max()),),
        lambda x: (x * torch.from_numpy(np.asarray(x) ** 2),),
    ],
)
def test_functions_that_depend_on_values_are_called_and_not_recorded(reads):
    with pytest.warns(UserWarning, match=r"not compiled: .* the values of a tensor .*: (aten|Tensor)\..* line \d+"):
        (result,), run = record(reads, [torch.ones(3)])
    assert torch.equal(result, torch.ones(3))
    assert run is None


@pytest.mark.skipif(torch.__version__ < "2.7", reason="PyTorch 2.6 imports it to compute without values")
def test_pytorchs_compiler_is_not_imported(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, torch, dann.estimator; dann.estimator.RECORDING_PAYS = 1; x = torch.randn(20, 3).numpy()\n"
        "dann.DomainAdapter('dann', dann.MLP((4,)), steps=3, device='cpu').fit(x, x[:, 0] > 0, x)"
        ".save(sys.argv[1])\n"
        "dann.DomainAdapter.load(sys.argv[1]).predict(x)\n"
        "assert 'torch._dynamo' not in sys.modules and 'sympy' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.safetensors")], check=False).returncode == 0


class Graph:
    """Stands for a CUDA graph on a machine without one: keeps what was computed inside, and repeats it."""

    def __init__(self, monkeypatch, fails=False):
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        self.options = {}
        monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: self.options.update(options) or graph)
        monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(self.options.update(device=device)))
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: ("stream on", device))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.stream)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(self, "stream", stream))
        self.fails, self.tape, self.stream = fails, _Tape(), "the caller's"

    def __enter__(self):
        self.before, self.stream = self.stream, self.options["stream"]
        self.tape.__enter__()

    def __exit__(self, *error):
        self.tape.__exit__(*error)
        if self.fails:  # PyTorch does not get to what follows either
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.stream = self.before

    def replay(self):
        for operation, args, kwargs, result in self.tape.calls:
            with torch.inference_mode():  # what a graph computes into knows nothing of gradients either
                result.copy_(operation(*args, **kwargs))


def test_a_captured_recording_is_fed_through_its_own_inputs(monkeypatch):
    Graph(monkeypatch)
    run = captured(recorded(lambda x, y: (x * y,), torch.ones(2), torch.ones(2)), [torch.ones(2), torch.ones(2)])
    first = run(torch.tensor([1.0, 2]), torch.tensor([3.0, 4]))
    second = run(torch.tensor([5.0, 6]), torch.tensor([7.0, 8]))
    assert (first[0].tolist(), second[0].tolist()) == ([3, 8], [35, 48])


def test_it_is_captured_on_the_device_of_its_inputs_and_other_threads_may_go_on(monkeypatch):
    graph = Graph(monkeypatch)
    captured(recorded(lambda x: (x + 1,), torch.ones(2)), [torch.ones(2)])
    here = torch.device("cpu")
    assert graph.options == {"device": here, "stream": ("stream on", here), "capture_error_mode": "thread_local"}


def test_what_a_captured_recording_reads_stays_alive(monkeypatch):
    """A graph knows addresses alone: memory that nobody holds would be given to the next tensor."""
    Graph(monkeypatch)
    known = torch.tensor([2.0, 3.0])
    _, recording = record(lambda x: (x * known.square(),), [torch.ones(2)], constants=[known])
    derived = [weakref.ref(t) for t in recording.changed if t is not known]
    run = captured(recording.run, [torch.ones(2)])
    del recording
    gc.collect()
    assert len(derived) == 1
    assert derived[0]() is not None
    assert callable(run)


def test_a_recording_that_cannot_be_captured_is_repeated_as_it_is(monkeypatch):
    graph = Graph(monkeypatch, fails=True)
    plain = recorded(lambda x: (x + 1,), torch.ones(2))
    with pytest.warns(UserWarning, match="not captured as a CUDA graph: .* when stream is capturing$"):
        run = captured(plain, [torch.ones(2)])
    assert run(torch.zeros(2))[0].tolist() == [1, 1]
    assert graph.stream == "the caller's"


def test_the_check_of_a_recording_takes_expanded_tensors_and_nan():
    held = torch.full((1,), torch.nan).expand(4)
    step = lambda x: (torch.where(held.isnan(), x, held),)  # noqa: E731
    _, recording = record(step, [torch.ones(4)])
    outputs, right = agrees(recording, step, [torch.ones(4)])
    assert right
    assert outputs[0].tolist() == [1] * 4


def test_large_weights_that_nothing_writes_to_are_not_copied_for_the_check():
    large, small, written = torch.ones(2**20 + 1), torch.ones(3), torch.zeros(2**20 + 1)
    _, recording = record(lambda x: (written.add_(large * x), small * x), [torch.ones(())])
    assert {id(t) for t in recording.changed} == {id(small), id(written)}
