"""Gives a simulated GPU to each Python process that has this folder on its path, once it imports PyTorch."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class WithGpu(MetaPathFinder):
    """Finds PyTorch as Python does, and installs the GPU when it is loaded."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == "torch" else None
        if spec is None:
            return None
        load = spec.loader.exec_module

        def load_and_install(module: ModuleType) -> None:
            load(module)
            sys.path.insert(0, str(Path(__file__).parent))  # workers of tests have another path by now
            import simulated_gpu

            simulated_gpu.install()

        spec.loader.exec_module = load_and_install
        return spec


sys.meta_path.insert(0, WithGpu())
