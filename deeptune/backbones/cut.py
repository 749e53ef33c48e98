"""Cuts a backbone in two at one of its blocks: networks whose modules feed one another, and text models."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from deeptune.backbones.base import CannotCut, Cut, hidden_states
from deeptune.backbones.small_pass import leaves, small_pass
from deeptune.backbones.text_backbone import TextBackbone


class ChainCut(Cut):
    """A cut of a network whose modules feed one another, found by watching one pass."""

    def suffix(self, boundary: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        for module in self._chain:
            boundary = module(boundary)
        return boundary

    def check(self) -> None:
        assert self._chain

    @cached_property
    def _chain(self) -> list[nn.Module]:
        with small_pass(self.backbone) as inputs:
            calls, features = self._watch(inputs)
            boundary = current = next(call.given for call in calls if call.module is self.first)
            chain: list[nn.Module] = []
            at: int | None = 0
            while at is not None and isinstance(current, Tensor):
                # The call that started first among those that were given this very tensor is the outermost.
                at = next((i for i in range(at, len(calls)) if calls[i].given is current), None)
                if at is not None:
                    chain.append(calls[at].module)
                    at, current = calls[at].end, calls[at].gave
            if current is not features or boundary is None:
                raise CannotCut(f"{self.backbone.info.name} does more than to pass on what its modules give")
            for module in chain:
                boundary = module(boundary)
            self._require_equal(boundary, features)
        return chain

    def _watch(self, inputs: dict[str, Tensor]) -> tuple[list[_Call], Tensor]:
        """Record every call of a module from the first of the suffix on, in the order in which they started."""
        calls: list[_Call] = []
        running: list[_Call] = []

        def before(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            alone = len(given) == 1 and not any(value is not None for value in named.values())
            call = _Call(module, given[0] if alone and isinstance(given[0], Tensor) else None)
            running.append(call)
            calls.append(call)

        def after(_module: nn.Module, _given: tuple[Any, ...], gave: Any) -> None:
            call = running.pop()
            call.end, call.gave = len(calls), gave

        handles = [
            handle
            for module in self.modules
            for handle in (
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after),
            )
        ]
        try:
            features = self.backbone.features(inputs)
        finally:
            for handle in handles:
                handle.remove()
        return calls, features


class _Call:
    """A module that was called.

    It holds the one tensor that the module was given (None: something else), what it gave, and how many calls had
    started when it ended.
    """

    def __init__(self, module: nn.Module, given: Tensor | None) -> None:
        self.module, self.given = module, given
        self.end, self.gave = 0, None  # type: int, Any


class LayersCut(Cut):
    """A text model in two.

    The model itself makes masks and positions from the inputs. Its frozen layers hand on what they get, and the
    boundary takes the place of what they would have given.
    """

    backbone: TextBackbone

    def __init__(self, backbone: TextBackbone, name: str, before: list[nn.Module]) -> None:
        super().__init__(backbone, name)
        self.before = before
        self._checked = False
        self._beside: tuple[None, ...] | None = None  # what a layer gives with the hidden states, where that is a tuple
        if not next(backbone.parameters()).is_meta:
            self.keys -= self._read_before()

    def prefix(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.backbone.each_length(super().prefix, inputs)

    def suffix(self, boundary: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        self.check()
        return self._suffix(boundary, inputs)

    def _suffix(self, boundary: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return self.backbone.each_length(self._from_boundary, {**inputs, "boundary": boundary})

    def _from_boundary(self, inputs: dict[str, Tensor]) -> Tensor:
        inputs = dict(inputs)
        boundary = inputs.pop("boundary")

        def put(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
            return ((boundary, *given[1:]), named) if given else (given, {**named, "hidden_states": boundary})

        def hand_on(*given: Any, **named: Any) -> Any:
            hidden = hidden_states(given, named)
            return hidden if self._beside is None else (hidden, *self._beside)

        handle = self.first.register_forward_pre_hook(put, with_kwargs=True)
        for layer in self.before:
            layer.forward = hand_on  # in the place of the class's
        try:
            return self.backbone.features(inputs)
        finally:
            handle.remove()
            for layer in self.before:
                del layer.forward

    def check(self) -> None:
        if self._checked:
            return
        if self.backbone.behaviour is not None and self.backbone.behaviour.shortest > 1:
            raise CannotCut(f"{self.backbone.info.name} pads texts of few tokens")
        gave: list[Any] = []
        handles = [
            layer.register_forward_hook(lambda _module, _given, found: gave.append(found)) for layer in self.before
        ]
        with small_pass(self.backbone) as inputs:
            features = self.backbone.features(inputs)
            for handle in handles:
                handle.remove()
            if gave and isinstance(gave[-1], tuple):
                self._beside = gave[-1][1:]
            if any(value is not None for value in self._beside or ()):
                raise CannotCut(f"the layers of {self.backbone.info.name} pass on more than hidden states")
            self._require_equal(self._suffix(self.prefix(inputs), inputs), features)
        self._checked = True

    def _read_before(self) -> set[str]:
        """Name the weights that the model lists after its layers and reads in the frozen ones.

        DeBERTa does so with its relative positions. They stay frozen.
        """
        names = {id(parameter): name for name, parameter in self.backbone.net.named_parameters()}
        learning = [(parameter, parameter.requires_grad) for parameter in self.backbone.net.parameters()]
        for parameter, _ in learning:
            parameter.requires_grad_(names[id(parameter)] in self.keys)
        try:
            with small_pass(self.backbone) as inputs, torch.enable_grad():
                boundary = self.prefix(inputs)
            return {names[id(leaf)] for leaf in leaves(boundary)}
        except CannotCut:
            return set()
        finally:
            for parameter, before in learning:
                parameter.requires_grad_(before)
