"""The families of torchvision networks, a file each. Importing them imports no torch.

Every module of this folder has a `FAMILY`, besides `family` (the base class). A new family is a new
module: it is found here, and nowhere listed.
"""

from __future__ import annotations

import importlib
import pkgutil

from deeptune.families.family import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__))
    if module != "family"
    for family in [importlib.import_module(f"{__name__}.{module}").FAMILY]
}
