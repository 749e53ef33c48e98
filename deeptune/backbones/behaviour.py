"""Finds out how a network behaves: a few tokens or one image pass through it.

Three things are not in any configuration: how wide a text model's vectors are, whether padding reaches the text
beside it, and which layers the network calls (an adapter beside a layer that is only read never learns). What was
found is kept in the cache, by the weights and all else that decides it, so that a later run passes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from deeptune import __version__
from deeptune.backbones.base import Backbone
from deeptune.backbones.small_pass import leaves, small_pass
from deeptune.backbones.text_backbone import TextBackbone, TextBehaviour
from deeptune.data.cache.entry import cache_folder, key_of
from deeptune.errors import CheckpointError, WeightsError
from deeptune.runs.files import write_json
from deeptune.spec.modalities import MODALITIES

T = TypeVar("T")
FORMAT = 1  # to be raised when the same network gives another answer
TOLERANCE = 1e-4  # share of the largest number of a text's vectors by which padding may change them
SHORT, LONG = 4, 24  # tokens of the two texts that share a batch
MAX_SHORTEST = 64  # tokens: a network that needs more of a text is refused


def text_behaviour(backbone: TextBackbone) -> TextBehaviour:
    """Pass a short text alone and beside a longer one.

    Raises WeightsError for a network that takes no tokens alone, or that does not give a vector for each.
    """

    def find() -> TextBehaviour:
        with small_pass(backbone):
            shortest = _shortest(backbone)
            short, both = _texts(backbone, shortest)
            alone, beside = backbone.run(short), backbone.run(both)[:1, : short["input_ids"].shape[1]]
        difference = float((alone - beside).abs().max())
        reaches = difference > TOLERANCE * float(alone.abs().max())
        return TextBehaviour(alone.shape[-1], shortest, reaches)

    return remembered("padding", backbone, find, lambda found: TextBehaviour(**found))


def meta_width(backbone: TextBackbone) -> int | None:
    """Return the width of a network on the meta device; None where its code looks at the values of tensors."""
    ids = torch.zeros(1, SHORT, dtype=torch.int64, device="meta")
    try:
        with torch.no_grad():
            return int(backbone.run({"input_ids": ids}).shape[-1])
    except Exception:  # whatever a library meets when it looks at values that are not there
        return None


def idle_layers(backbone: Backbone, layers: Mapping[str, nn.Module]) -> list[str]:
    """Name those `layers` beside which an adapter could not learn.

    What such a layer gives does not change the pooled output: the network reads its weight without calling it, or
    multiplies by zeros behind it.

    A zero is added to what each layer gives, and the gradient that comes back to it is looked at. On the meta device
    there are no values: only layers that are not called are known, and none where the network does not pass.
    """
    if next(backbone.net.parameters()).is_meta:
        try:
            return _idle(backbone, layers)
        except Exception:  # as in `meta_width`
            return []
    return remembered("adapters", backbone, lambda: _idle(backbone, layers), list, layers=sorted(layers))


def _idle(backbone: Backbone, layers: Mapping[str, nn.Module]) -> list[str]:
    added: list[tuple[str, Tensor]] = []

    def adding(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        def add(_module: nn.Module, given: tuple[Any, ...], gave: Tensor) -> Tensor:
            zero = torch.zeros_like(gave, requires_grad=True)
            if given and not zero.is_meta and not given[0].any():  # an adapter of nothing gives nothing
                return gave
            added.append((name, zero))
            return gave + zero

        return add

    handles = [layer.register_forward_hook(adding(name)) for name, layer in layers.items()]
    try:
        with small_pass(backbone) as inputs, torch.enable_grad():
            output = backbone(inputs)
    finally:
        for handle in handles:
            handle.remove()
    acting: set[str] = set()
    if output.is_meta:  # without values, what the output was computed from says all, in a third of the time
        reached = {id(leaf) for leaf in leaves(output)}
        acting = {name for name, zero in added if id(zero) in reached}
    elif output.requires_grad:
        # Any direction but that of the plain sum, which is always the same behind a normalisation.
        direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output.device)
        gradients = torch.autograd.grad(output, [zero for _, zero in added], direction, allow_unused=True)
        acting = {
            name
            for (name, _), gradient in zip(added, gradients, strict=True)
            if gradient is not None and bool(gradient.any())
        }
    called = {name for name, _ in added}
    return [name for name in layers if name not in acting and (name in called or not _is_expert(name))]


def _is_expert(name: str) -> bool:
    """Check whether a module is an expert of a mixture: the tokens decide which of them are called."""
    return "experts" in name.split(".")


def _shortest(backbone: TextBackbone) -> int:
    """Return the fewest tokens that the network passes, and gives a vector for each."""
    problem = ""
    for length in range(1, MAX_SHORTEST + 1):
        ids = _ids(backbone, length).unsqueeze(0)
        try:
            found = backbone.run({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        except Exception as error:  # whatever the library's code meets
            problem = problem or (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            if length >= SHORT and not isinstance(error, RuntimeError):
                break  # no question of length: an input that is missing, say
            continue
        if found.ndim == 3 and found.shape[:2] == ids.shape:
            return length
        problem = f"{tuple(found.shape)} came out for 1 text of {length} tokens"
    raise WeightsError(
        f"backbone.name: {backbone.info.source!r} does not give a vector for each token of a text ({problem}).",
        hint="Choose a model whose only input is text, such as a BERT.",
    )


def _texts(backbone: TextBackbone, shortest: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a short text alone, and the same beside a longer one."""
    most = getattr(backbone.preprocessing, "max_length", LONG)
    long = max(min(LONG, most), shortest)
    short = max(min(SHORT, long - 1), shortest)
    ids = torch.stack([_ids(backbone, long), _ids(backbone, long, seed=1)])
    mask = torch.ones_like(ids)
    ids[0, short:], mask[0, short:] = backbone.pad_id, 0
    both = {"input_ids": ids, "attention_mask": mask}
    return {name: value[:1, :short] for name, value in both.items()}, both


def _ids(backbone: TextBackbone, length: int, seed: int = 0) -> Tensor:
    """Return token ids, the padding token not among them."""
    numbers = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, max(backbone.vocabulary - 1, 1), (length,), generator=numbers)
    ids[ids == backbone.pad_id] = max(backbone.vocabulary - 1, 0)
    return ids.to(next(backbone.net.parameters()).device)


# What was found is found once.


def remembered(what: str, backbone: Backbone, find: Callable[[], T], read: Callable[[Any], T], **more: Any) -> T:
    """Return `find()`, or what it gave before for the same weights, architecture and versions.

    `read` makes it of JSON in the cache.
    Without a fingerprint (weights that a checkpoint brings) it is found anew.
    """
    if backbone.fingerprint is None:
        return find()
    device = next(backbone.net.parameters()).device.type
    known = {"probe": what, "code": FORMAT, "backbone": identity(backbone), "device": device}
    key = key_of({**known, "input": _input(backbone), "versions": versions(backbone), **more})
    file = cache_folder() / "probes" / f"{key}.json"
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return read(json.loads(file.read_text(encoding="utf-8"))["found"])
    found = find()
    with suppress(OSError, CheckpointError):  # a full or read-only disk costs the next run a moment
        file.parent.mkdir(parents=True, exist_ok=True)
        stored = asdict(found) if isinstance(found, TextBehaviour) else found
        write_json(file, {"what": f"{what}: {backbone.info.name}", "found": stored})
    return found


def _input(backbone: Backbone) -> dict[str, Any]:
    preprocessing = backbone.preprocessing
    return {name: getattr(preprocessing, name, None) for name in ("image_size", "max_length", "pad_id")}


def identity(backbone: Backbone) -> dict[str, Any]:
    """Identify weights, and what is made of them: one set of weights may fit two architectures."""
    config = getattr(backbone, "config", None)
    if config is None:
        architecture = backbone.info.source
    else:
        known = config.to_dict()
        for name in ("_name_or_path", "transformers_version"):  # where it was found, who wrote it
            known.pop(name, None)
        architecture = json.dumps(known, sort_keys=True, default=str)
    return {
        "loader": backbone.info.loader,
        "architecture": architecture,
        "weights": backbone.fingerprint,
        "pooling": backbone.pooling,
    }


def versions(backbone: Backbone) -> dict[str, str]:
    """Return the versions of the libraries that decode, tokenise and compute: another version may round differently."""
    packages = MODALITIES[backbone.info.modality].packages
    return {"deeptune": __version__} | {name: version(name) for name in packages}
