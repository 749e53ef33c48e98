"""Pretrained weights on this machine, and the hubs that others come from."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator

from deeptune.doctor.finding import Finding, ok, warn
from deeptune.fetching.download import reason
from deeptune.fetching.local import all_local_weights
from deeptune.fetching.planned import OFFLINE, forbidden_by

SECONDS = 5
TORCHVISION = "https://download.pytorch.org"
_CARRY = "Bring weights in a file: `deeptune weights pack` on a machine with network, `unpack` here (docs/offline.md)."


def weights() -> Iterator[Finding]:
    """List the weights that are here."""
    here = [found.name for found in all_local_weights()]
    if here:
        shown = ", ".join(here[:6]) + (f" and {len(here) - 6} more" if len(here) > 6 else "")
        yield ok("weights here", shown)
    else:
        yield warn("weights here", "none", "`deeptune weights fetch BACKBONE`, or a run fetches them.")


def hubs() -> Iterator[Finding]:
    """Ask each hub for an answer, through the proxies that are set."""
    if variable := forbidden_by():
        yield warn("hub", f"{variable} forbids every look at it", f"Unset {OFFLINE[0]} to fetch weights.")
    else:
        yield answer_of("hub", os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    yield answer_of("torchvision", TORCHVISION)


def answer_of(name: str, url: str) -> Finding:
    """Check whether an address answers at all."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS):
            return ok(name, f"{url} answers")
    except urllib.error.HTTPError:  # a refusal is an answer
        return ok(name, f"{url} answers")
    except (OSError, ValueError) as error:
        return warn(name, f"{url} does not answer: {reason(error)}", _CARRY)
