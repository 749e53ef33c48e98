"""The themes of our own: a dark and a light one, and the colours of the terminal itself."""

from __future__ import annotations

from dataclasses import replace

from textual.theme import BUILTIN_THEMES, Theme

DARK = Theme(
    name="deeptune-dark",
    primary="#5aa9e6",
    secondary="#7fc8a9",
    accent="#f2b05e",
    success="#6fcf97",
    warning="#f2c14e",
    error="#f2777a",
    foreground="#dfe6ee",
    background="#11161c",
    surface="#161d25",
    panel="#1e2731",
    dark=True,
    variables={"footer-key-foreground": "#5aa9e6", "border": "#324050", "border-blurred": "#26313d"},
)
LIGHT = Theme(
    name="deeptune-light",
    primary="#0b6bb8",
    secondary="#187a52",
    accent="#a85b00",
    success="#187a3c",
    warning="#946200",
    error="#b3261e",
    foreground="#1c2733",
    background="#fbfcfd",
    surface="#f2f5f8",
    panel="#e4eaf0",
    dark=False,
    variables={"footer-key-foreground": "#0b6bb8", "border": "#b9c6d3", "border-blurred": "#d3dce5"},
)
TERMINAL = replace(BUILTIN_THEMES["ansi-dark"], name="terminal")
THEMES = (DARK, LIGHT, TERMINAL)


def theme_names() -> list[str]:
    return [theme.name for theme in THEMES] + sorted(BUILTIN_THEMES)
