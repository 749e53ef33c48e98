"""A CUDA GPU for machines without one: its tensors say that they are on `cuda:0`, and compute on the CPU.

It refuses what a GPU refuses: an operator of tensors on two devices, and a NumPy array of its memory. A copy to the CPU
that does not wait holds NaN until somebody waits. So the code that only a GPU runs passes from end to end, with the
numbers of the CPU. Kernels, speed, memory and compilation are not simulated; autocast has the operators of the CPU's.

`install` changes PyTorch for the whole process, `sitecustomize` for each one that starts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, library
from torch.utils._device import _device_constructors

aten = torch.ops.aten
ON_GPU, ON_CPU = torch.device("cuda", 0), torch.device("cpu")
MEMORY = 16 << 30

COPYING = {aten.copy_.default, aten._to_copy.default, aten._foreach_copy_.default}  # from one device to the other
# Their second argument, the places that are read or written, may be on the CPU.
INDEXING = {aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_put_.default, aten.index_put.default}
# Operators that make a tensor on a device, and that others of them are made of.
MAKING = (
    aten.empty.memory_format, aten.empty_strided.default, aten.arange.default, aten.arange.start,
    aten.arange.start_step, aten.randperm.default, aten.linspace.default, aten.eye.default,
)  # fmt: skip
ELSEWHERE = {"device": ON_CPU, "pin_memory": False}  # what these are asked for instead


class Gpu:
    """The state of the GPU: copies on their way to the CPU, and how often the CPU waited."""

    def __init__(self) -> None:
        self.waits = 0
        self.on_the_way: list[tuple[Tensor, Tensor]] = []  # where each goes, and its numbers

    def wait(self, count: int | None = None) -> None:
        """Let the first `count` copies arrive, or all."""
        self.waits += 1
        for goal, numbers in self.on_the_way[:count]:
            goal.copy_(numbers)
        del self.on_the_way[:count]

    def send(self, numbers: Tensor) -> Tensor:
        """Begin a copy to the CPU."""
        goal = numbers.clone()
        self.on_the_way.append((goal, numbers))
        return goal.fill_(float("nan") if goal.is_floating_point() else 1)


gpu = Gpu()


class Event:
    """A mark in the order of the GPU's work. Who waits for it has the copies that were begun before."""

    def __init__(self, **_: Any) -> None:
        self.goals: list[Tensor] = []

    def record(self, *_: Any) -> None:
        self.goals = [goal for goal, _ in gpu.on_the_way]

    def synchronize(self) -> None:
        gpu.wait(sum(any(goal is mine for mine in self.goals) for goal, _ in gpu.on_the_way))


def set_data(self: Tensor, value: Tensor) -> None:
    """Stand for `self.data = value`, by which the parameters of a module move."""
    if isinstance(self, GpuTensor) != isinstance(value, GpuTensor):
        torch.utils.swap_tensors(self, torch.nn.Parameter(value, self.requires_grad))
        return
    with torch._C.DisableTorchFunctionSubclass():
        plain_data.__set__(self, value)
    if isinstance(self, GpuTensor):
        self.numbers = value.numbers


plain_data = Tensor.data
data = property(lambda self: self.detach(), set_data)


class GpuTensor(Tensor):
    """A tensor on the GPU. `numbers` is the CPU tensor that holds its values."""

    numbers: Tensor
    data = data
    device = property(lambda self: ON_GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, numbers: Tensor) -> GpuTensor:
        # To PyTorch's C++ it is a CPU tensor, as autograd starts no thread for a GPU that is not there.
        made = Tensor._make_wrapper_subclass(
            cls, numbers.shape, strides=numbers.stride(), storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype, layout=numbers.layout, device="cpu",
        )  # fmt: skip
        made.numbers = numbers
        return made

    def __init__(self, numbers: Tensor) -> None:
        pass

    def __repr__(self) -> str:
        return f"GpuTensor({self.numbers})"

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.cpu().numpy()
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first"
        )

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (Tensor.data_ptr, Tensor.untyped_storage, Tensor.storage):
            return function(args[0].numbers)
        if function is torch.nn.functional.one_hot:  # makes a tensor where C++ says that this one is
            return GpuTensor(function(args[0].numbers, *args[1:], **kwargs))
        if function is torch.nn.functional.scaled_dot_product_attention and kwargs.get("is_causal"):
            seen = torch.ones(args[0].shape[-2], args[1].shape[-2], dtype=torch.bool).tril()
            kwargs = {**kwargs, "is_causal": False, "attn_mask": GpuTensor(seen)}  # else C++ makes it on the CPU
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu":  # zeros_like and the like
            return function(*(each_tensor(value, numbers_of) for value in args), **kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operator, args, kwargs or {})


def compute(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call an operator of which at least one tensor is on the GPU."""
    if operator is aten._fused_sdp_choice.default:
        return 0  # attention by its formula: the fused kernels of a CPU and of a GPU are different operators
    known: dict[int, GpuTensor] = {}
    mixed = False

    def numbers(value: Tensor) -> Tensor:
        nonlocal mixed
        if isinstance(value, GpuTensor):
            known[id(value.numbers)] = value
            return value.numbers
        mixed = mixed or bool(value.dim())  # a single number may come from the CPU
        return value

    plain = [
        each_tensor(value, numbers_of if place == 1 and operator in INDEXING else numbers)
        for place, value in enumerate(args)
    ]
    named = {name: each_tensor(value, numbers) for name, value in kwargs.items()}
    named |= {name: value for name, value in ELSEWHERE.items() if kwargs.get(name) is not None}
    if mixed and operator not in COPYING:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"(argument of {operator})"
        )
    to_cpu = operator is aten.copy_.default and not isinstance(args[0], GpuTensor)
    if to_cpu or operator is aten._local_scalar_dense.default:
        gpu.wait()
    result = operator(*plain, **named)
    if to_cpu:
        return args[0]
    return each_tensor(result, lambda one: known[id(one)] if id(one) in known else GpuTensor(one))


def each_tensor(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Change the tensors of an operator's argument or result, which may be in lists."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(each_tensor(one, change) for one in value)
    return value


def numbers_of(value: Tensor) -> Tensor:
    return value.numbers if isinstance(value, GpuTensor) else value


plain_to = Tensor.to


def move(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Stand for `Tensor.to`."""
    if args and isinstance(args[0], GpuTensor):
        args = (ON_GPU, args[0].dtype, *args[1:])
    copy = kwargs.get("copy", False)
    device, dtype, late, layout = torch._C._nn._parse_to(*args, **{k: v for k, v in kwargs.items() if k != "copy"})
    if device is None or device.type == self.device.type or "cuda" not in (device.type, self.device.type):
        if isinstance(self, GpuTensor):
            return plain_to(self, dtype=dtype, copy=copy, memory_format=layout)
        return plain_to(self, *args, **kwargs)
    if self.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError("a gradient that goes from one device to another")
    numbers = numbers_of(self).detach()
    moved = plain_to(numbers, dtype=dtype, copy=True, memory_format=layout or torch.preserve_format)
    if device.type == "cuda":
        return GpuTensor(moved)
    if late:
        return gpu.send(moved)
    gpu.wait()
    return moved


def moved_after(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Stand for a function that makes a tensor on a device."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        tensor = make(*args, **kwargs)
        return tensor if device is None else tensor.to(device)

    return made


def made_on_gpu(operator: Any) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: GpuTensor(operator(*args, **kwargs | ELSEWHERE))


plain_groups = torch.optim.Optimizer._group_tensors_by_device_and_dtype


def groups(tensors: list[list[Any]], with_indices: bool = False) -> Any:
    """Group the tensors of an optimizer by the devices that they say they are on."""
    found = plain_groups(tensors, with_indices)
    return {(group[0][0][0].device, dtype): group for (_, dtype), group in found.items()}


operators = library.Library("aten", "IMPL")  # they live as long as it does


def install() -> None:
    """Let this process see one simulated GPU."""
    if Tensor.to is move:
        return
    for operator in MAKING:
        operators.impl(operator, made_on_gpu(operator), "CUDA", allow_override=True)
    Tensor.to = move
    Tensor.cpu = lambda self, *_: move(self, ON_CPU)
    Tensor.cuda = lambda self, *_, **__: move(self, ON_GPU)
    Tensor.pin_memory = lambda self, *_: self.clone()
    torch.nn.Parameter.data = data
    _device_constructors()  # which `torch.device`, as a context, has kept from then on
    torch.tensor, torch.as_tensor = moved_after(torch.tensor), moved_after(torch.as_tensor)
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else nullcontext()  # its views can't be wrapped
    torch.backends.cudnn.enabled = False
    torch.optim.Optimizer._group_tensors_by_device_and_dtype = staticmethod(groups)
    begin = torch.autocast.__init__
    torch.autocast.__init__ = lambda self, device_type, *args, **kwargs: begin(
        self, "cpu" if device_type == "cuda" else device_type, *args, **kwargs
    )
    install_cuda()


def install_cuda() -> None:
    """Let `torch.cuda` and `torch.accelerator` speak of the simulated GPU."""

    def answer(value: Any) -> Callable[..., Any]:
        return lambda *_, **__: value

    card = SimpleNamespace(
        name="Simulated GPU", major=8, minor=0, multi_processor_count=10, total_memory=MEMORY, uuid=None
    )
    state = torch.zeros(16, dtype=torch.uint8)  # random numbers are those of the CPU's generator
    answers = {
        "_lazy_init": None, "is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0,
        "set_device": None, "empty_cache": None, "mem_get_info": (MEMORY // 2, MEMORY), "memory_allocated": 1 << 20,
        "memory_reserved": 1 << 20, "max_memory_allocated": 1 << 20, "max_memory_reserved": 1 << 20,
        "reset_peak_memory_stats": None, "get_device_name": card.name, "get_device_properties": card,
        "get_device_capability": (8, 0), "get_arch_list": ["sm_80"], "is_bf16_supported": True,
        "get_rng_state": state, "get_rng_state_all": [state], "set_rng_state": None, "set_rng_state_all": None,
        "manual_seed": None, "manual_seed_all": None, "device": nullcontext(),
    }  # fmt: skip
    for name, value in answers.items():
        setattr(torch.cuda, name, answer(value))
    torch.cuda._initialized = True
    torch.cuda.synchronize = lambda *_: gpu.wait()
    torch.cuda.Event = Event
    torch.accelerator.current_stream = answer(SimpleNamespace(is_capturing=answer(False)))
    torch.accelerator.current_device_index = answer(0)
    torch.accelerator.set_device_index = answer(None)
    torch.accelerator.is_available = answer(True)
