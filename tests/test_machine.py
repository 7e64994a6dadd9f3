import pytest
import torch

from dann.machine import WORK_OF_A_THREAD, flushed_denormals, threads_for

# threads


@pytest.mark.parametrize(("share", "threads"), [(0.0, 1), (1.4, 1), (2.2, 2), (1e6, 3)])
def test_a_thread_is_used_where_there_is_work_for_it(share, threads, three_threads):
    with threads_for(share * WORK_OF_A_THREAD):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


def test_the_threads_come_back_behind_an_error(three_threads):
    with pytest.raises(KeyError), threads_for(0):
        raise KeyError
    assert torch.get_num_threads() == 3


# denormal numbers


def test_denormals_are_flushed_inside_and_kept_behind():
    tiny = torch.tensor([1e-40])
    with threads_for(0), flushed_denormals():
        assert (tiny * 1).item() == 0
        with flushed_denormals():
            pass
        assert (tiny * 1).item() == 0
    assert (tiny * 1).item() > 0


def test_denormals_are_kept_where_several_threads_compute(three_threads):
    with flushed_denormals():
        assert (torch.tensor([1e-40]) * 1).item() > 0
