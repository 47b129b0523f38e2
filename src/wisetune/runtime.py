"""Where and with what things ran: random streams, device, threads, versions. Torch is imported only inside functions."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wisetune.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import torch

LIBRARIES = ("torch", "numpy", "numba", "scikit-learn", "safetensors")
_DEVICES = ("auto", "cpu", "cuda", "mps")
_GPU_WORDS = ("gpu", "nvidia", "metal", "apple")


def version() -> str:
    """Wisetune's version."""
    return importlib.metadata.version("wisetune")


def duration(seconds: float) -> str:
    """A time as a person says it: ``40 s``, ``12 min``, ``3 h 5 min``."""
    if round(seconds) < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def seed_of(*key: int | str) -> int:
    """A 63-bit seed that is a pure function of its key, for example ``seed_of(seed, "augment", epoch)``."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()[:8], "little") >> 1


def generator(*key: int | str) -> np.random.Generator:
    """A numpy random stream that is a pure function of its key, so that it never depends on what ran before."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed_of(*key)))


def torch_generator(*key: int | str) -> torch.Generator:
    """The same on the torch side, on the CPU."""
    import torch

    return torch.Generator().manual_seed(seed_of(*key))


@contextlib.contextmanager
def drawing(*key: int | str) -> Iterator[None]:
    """Let initial values, which torch's modules draw from its default CPU generator, be a pure function of the key; nothing else notices."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed, which would seed every other device's generator as well, for good.
        torch.default_generator.manual_seed(seed_of(*key))
        yield


def device(name: str = "auto") -> torch.device:
    """The device asked for; ``auto`` takes cuda, then mps, then cpu.

    Raises:
        UsageError: the device is not there.
    """
    import torch

    there = [kind for kind, works in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if works]
    there.append("cpu")
    if name == "auto":
        name = there[0]
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        if name.partition(":")[0] not in _DEVICES:
            reason = f"there is no such device{_meant(name, there)}"
        raise UsageError(f"device '{name}' cannot be used here: {reason}. There are: auto, {', '.join(there)}.") from None
    return torch.device(name)


def _meant(name: str, there: list[str]) -> str:
    if name.lower() not in _GPU_WORDS:
        return did_you_mean(name, _DEVICES).replace(" Did", "; did", 1).rstrip("?")
    return f"; here it is '{there[0]}'" if len(there) > 1 else ", and torch finds no GPU here"


def processor(device_name: str = "cpu") -> str:
    """What the processor, or the GPU, is called, on which times were measured."""
    import torch

    if torch.device(device_name).type == "cuda":
        return torch.cuda.get_device_name(torch.device(device_name))
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def together(stamps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One stamp of everything that took part: where several values of one kind did, all of them, joined by commas."""
    kinds: dict[str, list[Any]] = {}
    for one in stamps:
        for kind, value in one.items():
            kinds.setdefault(kind, []).append(value)
    distinct = {kind: list(dict.fromkeys(values)) for kind, values in kinds.items()}
    return {kind: values[0] if len(values) == 1 else ", ".join(map(str, values)) for kind, values in distinct.items()}


def stamp(device_name: str = "cpu") -> dict[str, Any]:
    """What a result depends on besides its recipe: versions, device, threads, platform. No host or user names."""
    import torch

    return {
        "wisetune": version(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device_name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        **{library: importlib.metadata.version(library) for library in LIBRARIES},
    }
