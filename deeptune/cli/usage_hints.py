"""Hints for words that a command does not take."""

from __future__ import annotations

from typing import Any

from deeptune.spec.sources import ONE_SOURCE

# Options that some commands take for their input, which is an argument of others.
_INPUTS = frozenset({"--data", "--file", "--input-file", "--path", "--source", "--run", "--spec"})
# Options that a word without an option may be meant for, the likeliest first.
_MEANT = ("--data", "--runs", "--family")


def option_hint(option: str, context: Any) -> str:
    """Say what an unknown option was meant for: keys of the spec, or the argument of the command. May be empty."""
    parameters = context.command.params
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    if option in _INPUTS and arguments:
        name = (arguments[0].metavar or arguments[0].name.upper()).strip("[]")
        return f"{name} goes without an option: `{context.command_path} {name}`."
    if not any("--set" in parameter.opts for parameter in parameters):
        return ""
    from deeptune.spec.aliases import keys_meant
    from deeptune.spec.toml import spec_keys

    keys = keys_meant(option.lstrip("-"), spec_keys())
    return " or ".join(f"`--set {key}=…`" for key in keys) + " sets that." if keys else ""


def extra_hint(context: Any) -> str:
    """Say which option takes an extra word, or that the shell made several words of a pattern. May be empty."""
    if context.command.name == "import":
        return ONE_SOURCE
    for option in _MEANT:
        for parameter in context.command.params:
            if option not in parameter.opts:
                continue
            if option == "--data" and context.params.get(parameter.name):
                return "Quote a pattern, so that the shell leaves it as it is: --data 'scans-*.parquet'."
            return f"`{option}` takes it."
    return ""
