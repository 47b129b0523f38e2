from __future__ import annotations

import getpass
import json
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from wisetune import runtime
from wisetune.errors import UsageError


def test_seeds_do_not_change():
    # Every stored result depends on these values.
    assert runtime.seed_of(0, "order", 1) == 2070372274496236081
    assert runtime.seed_of() == 724655455495936113


def test_a_seed_is_a_pure_function_of_the_whole_key():
    keys = [
        (),
        (0,),
        (0, 0),
        (0, "order"),
        ("order", 0),
        (0, "order", 1),
        (1, "order", 0),
        (0, "order1"),
        (10, "order"),
        ("1", "0"),
        ("10",),
    ]
    seeds = [runtime.seed_of(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert seeds == [runtime.seed_of(*key) for key in keys]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_streams_of_one_key_are_equal_and_do_not_touch_the_global_ones():
    np.random.seed(3)  # noqa: NPY002 - the global state is what must not change
    torch.manual_seed(3)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    first, second = runtime.generator(0, "order", 1).random(5), runtime.generator(0, "order", 1).random(5)
    other = runtime.generator(0, "order", 2).random(5)
    assert first.tolist() == second.tolist() != other.tolist()
    a, b = (torch.rand(5, generator=runtime.torch_generator("view", 1)) for _ in range(2))
    assert a.tolist() == b.tolist() != torch.rand(5, generator=runtime.torch_generator("view", 2)).tolist()
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # noqa: NPY002


def test_a_gpu_is_called_by_its_kind(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"there is no such device, and torch finds no GPU here\. There are: auto, cpu\.$"):
        runtime.device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UsageError, match=r"there is no such device; here it is 'cuda'\. There are: auto, cuda, cpu\.$"):
        runtime.device("GPU")
    with pytest.raises(UsageError, match=r"there is no such device; did you mean 'cuda'\. There are"):
        runtime.device("cudaa")


@pytest.mark.parametrize("name", ["cuda:99", "mps:7", "warp", "", "cpu:x"])
def test_a_device_that_is_not_there_is_refused_in_one_line(name):
    with pytest.raises(UsageError, match=r"^device '.*' cannot be used here: [^\n]*\. There are: auto, [a-z, ]*cpu\.$"):
        runtime.device(name)


def test_auto_is_a_device_that_can_be_used():
    assert torch.zeros(1, device=runtime.device()).item() == 0
    assert runtime.device("cpu") == torch.device("cpu")


def test_the_stamp_says_what_a_result_depends_on_and_not_who_made_it():
    stamp = runtime.stamp("cpu")
    assert {"wisetune", "python", "platform", "device", "threads", "torch", "numpy"} <= set(stamp)
    assert json.loads(json.dumps(stamp)) == stamp
    text = json.dumps(stamp)
    assert platform.node() not in text
    assert f'"{getpass.getuser()}"' not in text


def test_the_ground_floor_is_imported_without_torch_or_numpy():
    names = ", ".join(f"wisetune.{name}" for name in ("errors", "files", "spec", "recipe", "records", "results", "runtime"))
    check = f"import sys, {names}; sys.exit(', '.join({{'torch', 'numpy', 'sklearn', 'numba'}} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_processor_has_a_name_that_stays_the_same():
    assert runtime.processor()
    assert runtime.processor() == runtime.processor("cpu")


def test_a_gpu_is_called_by_its_own_name_and_not_by_the_processors(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert runtime.processor("cuda:1") == "GPU 1"


def test_numbers_are_told_without_what_draws_them():
    check = "import sys, wisetune.report.write; sys.exit(', '.join({'torch', 'matplotlib'} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_stamps_together_name_every_value_once():
    stamps = [{"device": "cuda", "threads": 2}, {}, {"device": "cpu", "threads": 2, "torch": "2.1"}, {"device": "cuda"}]
    assert runtime.together(stamps) == {"device": "cuda, cpu", "threads": 2, "torch": "2.1"}
    assert runtime.together([]) == {}
