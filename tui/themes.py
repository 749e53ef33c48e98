"""DeepTune's themes: dark, light, and the terminal's own colours."""

from __future__ import annotations

from dataclasses import replace

from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme

from deeptune.show.scatter import INKS, SHADES

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
# Of classes: told apart also by those who see no red or no green (after Okabe and Ito, https://jfly.uni-koeln.de/color).
ON_DARK = ("#56b4e9", "#e69f00", "#2fbf93", "#f0743e", "#d98cc0", "#f0e442", "#7f8ff0", "#b8c0c8")
ON_LIGHT = ("#0072b2", "#b86e00", "#00805c", "#c24a00", "#a8477f", "#7a7000", "#4052c0", "#5a6570")
OF_TERMINAL = ("blue", "yellow", "green", "red", "magenta", "cyan", "bright_blue", "bright_black")
THEMES = (DARK, LIGHT, TERMINAL)


def theme_names() -> list[str]:
    """List the themes, DeepTune's own first."""
    return [theme.name for theme in THEMES] + sorted(BUILTIN_THEMES)


def inks(theme: Theme) -> dict[str, str]:
    """Return the variables `class-1`, … for classes, and `value-1`, … for numbers from low to high."""
    if theme.ansi:
        classes = values = tuple(f"ansi_{name}" for name in OF_TERMINAL)
    else:
        classes = ON_DARK if theme.dark else ON_LIGHT
        low, high = Color.parse(classes[0]), Color.parse(classes[3])
        values = tuple(low.blend(high, shade / (SHADES - 1)).hex for shade in range(SHADES))
    return {f"class-{number + 1}": classes[number] for number in range(INKS)} | {
        f"value-{number + 1}": values[number] for number in range(SHADES)
    }
