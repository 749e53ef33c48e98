"""Check whether the login manager would end a run when the person who started it logs out."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

# systemd reads the first of these main files, then every drop-in of all of them by name (logind.conf(5)).
_MAIN = ("etc/systemd/logind.conf", "run/systemd/logind.conf", "usr/local/lib/systemd/logind.conf",
         "usr/lib/systemd/logind.conf")  # fmt: skip
_YES = {"1", "yes", "y", "true", "t", "on"}


def logout_warning(*, root: Path = Path("/"), cgroup: str | None = None, user: str | None = None) -> str | None:
    """Return a warning with the remedy if systemd-logind's `KillUserProcesses` applies to this process, else None.

    It ends only processes in a login session's scope, not those under `user@….service` or a system service.
    """
    if cgroup is None:
        try:
            cgroup = Path("/proc/self/cgroup").read_text()
        except OSError:
            return None
    if not re.search(r"/session-[^/]+\.scope\b", cgroup):
        return None
    settings = _settings(root)
    if settings.get("KillUserProcesses", "no").lower() not in _YES:
        return None
    user = user or pwd.getpwuid(os.getuid()).pw_name  # one who logged in has a name
    only, excluded = settings.get("KillOnlyUsers", "").split(), settings.get("KillExcludeUsers", "root").split()
    if user in excluded or (only and user not in only):
        return None
    return (
        "this machine ends all your processes when you log out (KillUserProcesses=yes in logind.conf), this run too. "
        "To keep it: `loginctl enable-linger`, then start it with `systemd-run --user --scope deeptune run …`"
    )


def _settings(root: Path) -> dict[str, str]:
    files = [root / name for name in _MAIN if (root / name).is_file()][:1]
    drop_ins: dict[str, Path] = {}
    for name in reversed(_MAIN):
        folder = root / f"{name}.d"
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            drop_ins.update({file.name: file for file in folder.glob("*.conf")})
    files += [drop_ins[name] for name in sorted(drop_ins)]
    settings: dict[str, str] = {}
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.lstrip().startswith(("#", ";")):
                settings[key.strip()] = value.strip()
    return settings
