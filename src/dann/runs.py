"""What a training leaves on disk: files that are whole or absent, and hold no code."""

import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .evidence import Evidence

STATE = ("fingerprint", "step", "history", "rng", "network", "average", "optimizer", "guards", "trains", "method")
FORMAT = 1  # of model files; raised when an older dann can no longer read what a newer one writes


class ModelFileError(ValueError):
    """A model file is truncated, altered, from a newer version, or no model file."""


def version() -> str:
    """Version of the installed dann."""
    from importlib.metadata import version

    return version("dann")


@contextmanager
def alone(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep a run folder to this process: two at once would delete each other's trainings.

    Raises
    ------
    ValueError
        Another process has it, or it is a file. The lock ends with its process, however that ends.
    """
    import fcntl

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file and cannot be the run folder: give another name")
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path, plain = folder / ".dann-lock", os.O_NOFOLLOW | os.O_NONBLOCK  # no link, no pipe that nobody reads
    with open(path, "a", opener=lambda name, flags: os.open(name, flags | plain, 0o666)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.fstat(file.fileno()).st_nlink > 0  # its owner may have deleted it in between
        except BlockingIOError:
            free = False
        except OSError:  # a file system without locks
            free = True
        if not free:
            raise ValueError(f"{folder} is the run folder of another dann that is running: wait, or give another")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # one that is not empty stays, and those around it
                for place in made:
                    place.rmdir()


def write(path: str | os.PathLike[str], content: bytes | str, more: bytes | memoryview = b"") -> Path:
    """Write a file under a temporary name beside it, then rename: readers see the old file or the whole new one.

    Devices and pipes, and what stands for an open file, are written to: renaming would put a file in their place.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and (not path.is_file() or path.absolute().parts[1] in ("dev", "proc")):
        path.write_bytes(data + more)
        return path
    temporary = path.with_name(f".{uuid.uuid4().hex[:16]}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.write(more)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, error.strerror, str(path)) from None  # of the subclass that errno stands for
        raise
    return path


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Write JSON atomically; NumPy numbers and arrays become plain ones."""
    return write(path, json.dumps(content, indent=1, default=plain) + "\n")


def write_report(path: str | os.PathLike[str], content: Any) -> Path:
    """Write JSON for others to read; see `without_nan`."""
    return write_json(path, without_nan(content))


def without_nan(content: Any) -> Any:
    """Return JSON values with None for NaN and infinities, which other readers of JSON refuse."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    if isinstance(content, np.ndarray):
        return without_nan(content.tolist())
    return None if isinstance(content, (float, np.floating)) and not np.isfinite(content) else content


def plain(value: Any) -> Any:
    """Turn NumPy values into those that JSON knows."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON, or return None where there is no such file.

    Raises
    ------
    ValueError
        The file holds something else.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no readable JSON ({error}); give another folder, or delete it") from error


def fingerprint(arrays: Iterable[np.ndarray], config: Any) -> str:
    """Digest of data and configuration: two trainings with the same one are the same training."""
    digest = hashlib.blake2b(json.dumps(config, sort_keys=True, default=plain).encode(), digest_size=16)
    for a in arrays:
        digest.update(f"{a.dtype}{a.shape}".encode())
        digest.update(np.ascontiguousarray(a).data)
    return digest.hexdigest()


def save_evidence(path: str | os.PathLike[str], evidence: Evidence) -> Path:
    """Write the arrays of an evaluation pass into one safetensors file, which appears whole or not at all."""
    from safetensors.numpy import save

    arrays = {f.name: np.ascontiguousarray(a) for f in fields(evidence) if (a := getattr(evidence, f.name)) is not None}
    return write(path, *in_order(save(arrays, metadata={"digest": fingerprint_of(arrays)})))


def fingerprint_of(arrays: dict[str, np.ndarray]) -> str:
    """Digest of arrays and their names."""
    return fingerprint([arrays[name] for name in sorted(arrays)], sorted(arrays))


def load_evidence(path: str | os.PathLike[str]) -> Evidence:
    """Read what `save_evidence` wrote, executing nothing.

    Raises
    ------
    FileNotFoundError
    ValueError
        The file is none of these.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).exists():
        raise FileNotFoundError(f"there is no evidence {path}")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (the file is no mapping)
        if metadata.get("digest") != fingerprint_of(arrays):
            raise ValueError("it was altered after it was written, or by an earlier version")
        return Evidence(**arrays)
    except (SafetensorError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no evidence: {error}") from error


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a training state atomically, behind a digest of it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write(path, hashlib.sha256(content).digest() + content)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read a training state onto the CPU, executing nothing; None where there is none.

    Raises
    ------
    ModelFileError
        The file cannot be read.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        whole = path.read_bytes()
        mark, content = whole[:32], whole[32:]
        if hashlib.sha256(content).digest() != mark:
            raise ValueError("it was altered, cut off, or written by an earlier version")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if missing := sorted({*STATE} - set(state)):
            raise ValueError(f"it lacks {', '.join(missing)}")
        return state
    except Exception as error:
        reason = str(error).split(". ")[0]  # what follows in PyTorch's message is how to run the code in the file
        raise ModelFileError(f"{path} is no readable checkpoint ({reason}); delete it to start anew") from error


def save_model(path: str | os.PathLike[str], tensors: dict[str, Tensor], config: dict[str, Any]) -> Path:
    """Write weights and configuration into one safetensors file, atomically.

    Parameters
    ----------
    tensors : dict of Tensor
    config : dict
        JSON values; kept, with a digest of everything, in the file's metadata.
    """
    from safetensors.torch import save

    kept, owner = {}, dict[int, str]()
    for name, t in tensors.items():
        t = t.detach().cpu().contiguous()
        shared = owner.setdefault(t.untyped_storage().data_ptr(), name) != name  # weights that two modules share
        kept[name] = t.clone() if shared else t
    text = json.dumps({"format": FORMAT, **config}, sort_keys=True, default=plain)
    return write(path, *in_order(save(kept, metadata={"dann": text, "digest": digest(kept, text)})))


def in_order(content: bytes) -> tuple[bytes, memoryview]:
    """Return a safetensors file's header in the order of names, and the rest: the same model is then the same bytes."""
    size = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header, memoryview(content)[size:]


def load_model(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a model file: numbers and JSON, nothing that could run.

    Raises
    ------
    FileNotFoundError
    ModelFileError
        The file is truncated, altered, from a newer version, or no model file of ours.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"there is no model file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (the file is no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path} is truncated or no model file: {error}") from error
    text = metadata.get("dann")
    if text is None:
        raise ModelFileError(f"{path} was not written by dann: it has no configuration; use DomainAdapter.save")
    try:
        config = json.loads(text)
        written = int(config["format"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ModelFileError(f"{path} has an unreadable configuration ({error}); save the model again") from error
    if written > FORMAT:
        raise ModelFileError(
            f"{path} was written by a newer dann ({config.get('version', 'unknown')}, file format {written}); "
            f"this one reads formats up to {FORMAT}: upgrade dann"
        )
    if metadata.get("digest") != digest(tensors, text):
        raise ModelFileError(f"{path} was altered after it was written: its digest does not match; get the file again")
    return tensors, config


def digest(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 of a configuration and the bytes of all tensors, by name."""
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        t = tensors[name].contiguous()
        sha.update(f"{name}{t.dtype}{tuple(t.shape)}".encode())
        sha.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
