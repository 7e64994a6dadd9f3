import ctypes
import os
import subprocess
import sys
import threading
import warnings

import pytest
import torch

import dann.machine
from dann.machine import (
    WORK_OF_A_THREAD,
    flushed_denormals,
    has_bf16_units,
    kept_memory,
    precision_for,
    rows_at_once,
    threads_for,
)

# threads


@pytest.mark.parametrize(("share", "threads"), [(0.0, 1), (1.4, 1), (2.2, 2), (1e6, 3)])
def test_a_thread_is_used_where_there_is_work_for_it(share, threads, three_threads):
    with threads_for(share * WORK_OF_A_THREAD):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


def test_there_are_no_more_threads_than_processors_that_may_be_used(three_threads, monkeypatch):
    monkeypatch.setattr("dann.machine.cpu_count", lambda: 2)
    with threads_for(1e6 * WORK_OF_A_THREAD):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be taken away here")
def test_processors_that_this_process_may_not_use_are_not_counted():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    code += "import dann.machine; print(dann.machine.cpu_count())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"


def test_the_threads_come_back_behind_an_error(three_threads):
    with pytest.raises(KeyError), threads_for(0):
        raise KeyError
    assert torch.get_num_threads() == 3


def test_blocks_that_overlap_in_several_threads_leave_every_thread_what_it_had(three_threads):
    """A thread starts with the number that another one has set for a while, and would keep it."""
    inside, go_on, seen = threading.Event(), threading.Event(), []

    def first():
        with threads_for(0):
            inside.set()
            go_on.wait(10)

    def second():
        assert inside.wait(10)
        with threads_for(2 * WORK_OF_A_THREAD):
            seen.append(torch.get_num_threads())
            with threads_for(WORK_OF_A_THREAD), threads_for(2 * WORK_OF_A_THREAD):  # the inner one has as many left
                seen.append(torch.get_num_threads())
            go_on.set()
            one.join(10)
        seen.append(torch.get_num_threads())

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start(), two.start()
    one.join(20), two.join(20)
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start(), later.join(20)
    assert seen == [2, 1, 3, 3]


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


# memory


FAULTS = """
import resource, torch
from dann.machine import kept_memory

def faults():  # pages fetched from the system while large tensors come and go
    for _ in range(20):  # it takes a few until all lie side by side
        torch.ones(10_000_000)  # 40 MB: glibc maps it by itself
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

outside = faults()
with kept_memory():
    inside = faults()
    with kept_memory():
        pass
    still_inside, held = faults(), resident()
print(outside, inside, still_inside, held, resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_memory_is_kept_inside_the_outermost_block_and_given_back_behind_it():
    printed = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    outside, inside, still_inside, held, behind = map(int, printed.split())
    assert inside < outside / 5
    assert still_inside < outside / 5
    assert (held - behind) * 4096 > 30e6


@pytest.mark.parametrize("library", [None, object()])
def test_other_c_libraries_are_left_alone(library, monkeypatch):
    opened = []
    monkeypatch.setattr(dann.machine.sys, "platform", "linux" if library else "win32")
    monkeypatch.setattr(dann.machine.ctypes, "CDLL", lambda name: opened.append(name) or library)
    with kept_memory():
        pass  # the library has no function that could be called
    assert opened == ([None, None] if library else [])


# precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BF16, FP32 = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("wanted", "units", "share", "precision"),
    [
        ("auto", True, 2.0, BF16),
        ("auto", True, 0.5, FP32),  # too little work to gain
        ("auto", False, 2.0, FP32),
        ("fp32", True, 2.0, FP32),
        ("bf16", False, 0.5, BF16),
    ],
)
def test_bfloat16_is_taken_where_it_gains_or_is_asked_for(wanted, units, share, precision, monkeypatch):
    monkeypatch.setattr(dann.machine, "has_bf16_units", lambda _: units)
    assert precision_for(wanted, CPU, share * WORK_OF_A_THREAD) == precision


@pytest.mark.parametrize(
    ("capabilities", "units"),
    [
        ({"cpu_name": "Intel(R) Xeon(R)", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel(R) Xeon(R)", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, False),
        ({}, False),
    ],
)
def test_amx_or_an_amd_processor_is_fast_in_bfloat16(capabilities, units, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bf16_units(CPU) is units


def test_a_pytorch_that_cannot_tell_what_the_processor_has_trains_in_single_precision(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_bf16_units(CPU)


def test_emulated_bfloat16_does_not_count_on_a_gpu(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation))
    assert not has_bf16_units(CUDA)
    assert asked == [False]


@pytest.mark.parametrize(("work", "rows"), [(0, 4096), (1e3, 4096), (4e6, 62), (1e12, 1)])
def test_predictions_take_as_many_rows_as_the_work_of_one_allows(work, rows):
    with threads_for(0):
        assert rows_at_once(work, CPU) == rows
    assert rows_at_once(work, CUDA) >= rows


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_process_that_is_forked_during_a_training_starts_as_the_user_left_it(three_threads):
    """Of the threads that had set something there is but the one that forks."""
    from dann.machine import usual_modes

    inside, go_on = threading.Event(), threading.Event()

    def train():
        with usual_modes(), threads_for(0), kept_memory():
            inside.set()
            go_on.wait(20)

    torch.set_default_dtype(torch.float64)
    try:
        other = threading.Thread(target=train)
        other.start()
        assert inside.wait(20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads
            child = os.fork()
        if not child:
            found = (torch.get_default_dtype(), torch.get_num_threads(), dann.machine._keepers)
            with usual_modes():
                found += (torch.get_default_dtype(),)
            os._exit(0 if found == (torch.float64, 3, 0, torch.float32) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go_on.set()
        other.join(20)
        assert torch.get_default_dtype() == torch.float64
    finally:
        go_on.set()
        torch.set_default_dtype(torch.float32)
