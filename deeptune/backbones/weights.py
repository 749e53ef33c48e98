"""Weights in and out: reading files without running code, fitting them strictly, naming them by content."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from deeptune.catalog import WEIGHT_FILES, index_shards
from deeptune.data.images.file_types import HEAD, stand_in
from deeptune.errors import WeightsError, first_line, listed

State = dict[str, Tensor]

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")
_OTHER_TOOLS = {".gguf": "llama.cpp", ".h5": "TensorFlow", ".msgpack": "Flax", ".onnx": "ONNX"}
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PREFIXES = ("module.", "_orig_mod.")  # left by DistributedDataParallel and torch.compile


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers on the CPU from `seed` alone. The caller's generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fingerprint(module_or_state: nn.Module | Mapping[str, Tensor]) -> str:
    """Return `sha256:…` over the sorted names, dtypes, shapes and bytes of every tensor of the state."""
    state = module_or_state.state_dict() if isinstance(module_or_state, nn.Module) else module_or_state
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return f"sha256:{digest.hexdigest()}"


def require_weights(path: Path | str) -> Path:
    """Return the path of given weights. Raises WeightsError when nothing is there."""
    hint = "Give 'pretrained', 'random', or the path of a .safetensors or .pth file or a folder that holds one."
    try:
        path = Path(path).expanduser()
        there = path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long; `~somebody` who has no home
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"backbone.weights: {str(path)!r} cannot be opened: {reason}.", hint=hint) from error
    if not there:
        raise WeightsError(f"backbone.weights: there is no file or folder {str(path)!r}.", hint=hint)
    if not path.is_file() and not path.is_dir():  # reading a pipe or a device may never end
        raise WeightsError(f"backbone.weights: {str(path)!r} is not a regular file.", hint=hint)
    return path


def read_state(path: Path) -> State:
    """Read the tensors of a .safetensors, .pth, .pt or .bin file, or of a folder that holds one.

    Nothing in the file is run. A state dict inside a training checkpoint is taken out, and the prefixes
    that DataParallel and torch.compile leave are dropped. Raises WeightsError for a missing, damaged or
    foreign file, and for one that holds Python objects beside tensors.
    """
    path = require_weights(path)
    return _read_folder(path) if path.is_dir() else _read_file(path)


def _read_file(path: Path) -> State:
    if path.suffix not in _SUFFIXES:
        raise WeightsError(f"{path}: not a weight file; expected one of {', '.join(_SUFFIXES)}.")
    _require_content(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return _unwrapped(content, path)


def _read_folder(folder: Path) -> State:
    files = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not files:
        refuse_adapter(folder)
        files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
        if len(files) != 1:
            raise _no_single_file(folder, files)
    if files[0].suffix != ".json":
        return read_state(files[0])
    state: State = {}
    for shard in index_shards(files[0]):
        if not require_weights(shard).is_file():
            raise WeightsError(f"{files[0]}: names {shard.name!r}, which is a folder.")
        state |= _read_file(shard)
    return state


def _no_single_file(folder: Path, files: list[Path]) -> WeightsError:
    found = f"several: {listed(file.name for file in files)}" if files else "none"
    hint = "Name the file itself, or call it model.safetensors."
    others = sorted(file for file in folder.iterdir() if file.suffix in _OTHER_TOOLS) if not files else []
    if others:
        found += f" but {others[0].name}, which is for {_OTHER_TOOLS[others[0].suffix]}"
        hint = "Get the model's safetensors, or load it in PyTorch and save it with `save_pretrained`."
    return WeightsError(f"{folder}: expected one weight file in this folder, found {found}.", hint=hint)


def refuse_adapter(folder: Path) -> None:
    """Raise WeightsError for a folder of PEFT: its weights are those of an adapter, without the model."""
    if (folder / "adapter_config.json").is_file():
        raise WeightsError(
            f"{folder}: this folder holds an adapter of PEFT, and not the model that it adapts.",
            hint="Merge the two with PEFT's `merge_and_unload`, and `save_pretrained` the model and its tokenizer.",
        )


def _read_safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # of what it is about to refuse
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search(r"Unsupported (global|class|operand)|GLOBAL|not an allowed", str(error)):
            raise WeightsError(
                f"{path}: refused: the file holds Python objects beside tensors, and reading those runs code.",
                hint="Where you trust the file, save its tensors alone: torch.save(model.state_dict(), ...).",
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # torch.load meets damaged bytes with whatever its parsers raise
        raise _damaged(path, error) from error


def _require_content(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("rb") as stream:
        if (found := stand_in(stream.read(HEAD))) is not None:
            what, hint = found
            raise WeightsError(f"{path}: holds no weights: it is {what}.", hint=hint)


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = first_line(error, 200)
    return WeightsError(
        f"{path}: cannot be read as weights; the file is damaged or of another format ({reason}).",
        hint="Delete it and fetch it again, or give another file.",
    )


def _unwrapped(content: Any, path: Path) -> State:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise WeightsError(f"{path}: holds no named tensors.", hint="Expected a state dict: names and tensors.")
    state: OrderedDict[str, Tensor] = OrderedDict(tensors)
    metadata = dict(getattr(content, "_metadata", None) or {})
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = OrderedDict((name.removeprefix(prefix), tensor) for name, tensor in state.items())
            metadata = {name.removeprefix(prefix): value for name, value in metadata.items()}
    _require_unquantized(state, path)
    if metadata:
        state._metadata = metadata  # type: ignore[attr-defined]  # modules upgrade old names by the version in it
    return state


def _require_unquantized(state: State, path: Path) -> None:
    """Raise WeightsError for integers and numbers of 8 bits: without their scales they are other weights."""
    packed = [
        f"{name} ({str(tensor.dtype).removeprefix('torch.')})"
        for name, tensor in state.items()
        if name.endswith((".weight", ".bias")) and tensor.dtype not in _DTYPES
    ]
    if packed:
        raise WeightsError(
            f"{path}: holds {len(packed):,} quantized weights: {listed(packed, most=3)}.",
            hint="Give the weights in 16 or 32 bits that they were made from.",
        )


def require_finite(net: nn.Module, source: str) -> None:
    """Raise WeightsError where a weight or a running statistic is NaN or infinite, which no training mends."""
    statistics = ((name, one) for name, one in net.named_buffers() if name.endswith(("running_mean", "running_var")))
    broken = [name for name, one in (*net.named_parameters(), *statistics) if not _is_finite(one.detach())]
    if broken:
        raise WeightsError(
            f"backbone.weights: {source} holds NaN or infinite values in {len(broken):,} weights: "
            f"{listed(broken, most=3)}.",
            hint="The training that wrote them diverged, or the file is damaged: give another checkpoint.",
        )


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    low, high = tensor.aminmax()  # one pass without a copy; NaN is passed on
    return bool(torch.isfinite(low) & torch.isfinite(high))


def renamed(state: State, own: Mapping[str, Tensor], parts: tuple[str, ...]) -> State:
    """Rename weights to the names of `own`.

    A prefix that a wrapper put before them (`model.bert.`) is taken away, or one of `parts` (`encoder.`) is put before
    them where what was saved is that part. Where no name would fit, nothing is changed.
    """
    wrappers = {name[: dot.end()] for name in state for dot in re.finditer(r"\.", name)}
    changes = [(taken, "") for taken in sorted(wrappers, key=len)] + [("", put) for put in parts]

    def changed(name: str, change: tuple[str, str]) -> str:
        return change[1] + name.removeprefix(change[0])

    best = max(changes, key=lambda change: sum(changed(name, change) in own for name in state), default=("", ""))
    found = OrderedDict((changed(name, best), tensor) for name, tensor in state.items())
    return found if found.keys() & own.keys() else state


def load_state(net: nn.Module, state: State, *, source: str, ignore: tuple[str, ...] = ()) -> None:
    """Copy `state` into `net`, which must take every one of its own weights from it.

    Keys that start with one of `ignore` (the classifier's) may be there and are left out. BatchNorm's count
    of batches may be missing: old files have none, and nothing reads it. Raises WeightsError that lists what
    is missing, unexpected or of another shape.
    """
    kept = OrderedDict((name, tensor) for name, tensor in state.items() if not name.startswith(ignore or ("\0",)))
    if hasattr(state, "_metadata"):
        kept._metadata = state._metadata  # type: ignore[attr-defined]
    own = net.state_dict()
    shapes = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in kept.items()
        if name in own and own[name].shape != tensor.shape
    ]
    missing: Iterable[str] = ()
    unexpected: Iterable[str] = ()
    try:
        fitting = OrderedDict((k, v) for k, v in kept.items() if k not in own or own[k].shape == v.shape)
        if hasattr(kept, "_metadata"):
            fitting._metadata = kept._metadata  # type: ignore[attr-defined]
        result = net.load_state_dict(fitting, strict=False)
        missing = [k for k in result.missing_keys if not k.endswith("num_batches_tracked") and k not in kept]
        unexpected = result.unexpected_keys
    except RuntimeError as error:  # a key that a module renamed on the way in, of another shape
        shapes += [line.strip() for line in str(error).splitlines()[1:]]
    check_fit(source, missing=missing, unexpected=unexpected, shapes=shapes)
    require_finite(net, source)


def check_fit(
    source: str, *, missing: Iterable[str] = (), unexpected: Iterable[str] = (), shapes: Iterable[str] = ()
) -> None:
    """Raise WeightsError with counts and the first few keys if there is any."""
    problems = []
    for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if keys := sorted(keys):
            problems.append(f"{len(keys):,} {kind}: {listed(keys, most=5)}")
    if problems:
        raise WeightsError(
            f"backbone.weights: {source} does not fit the backbone. Keys " + "; ".join(problems) + ".",
            hint="Check that backbone.name is the architecture that these weights were trained in.",
        )
