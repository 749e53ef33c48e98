"""Completion in shells: the protocols of bash, zsh and fish, and that of bash in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = "import sys; sys.argv[0] = 'deeptune'; from deeptune.cli import main; main()"


def ask(folder: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.stdout


def in_bash(folder: Path, *words: str) -> list[str]:
    """What bash is given for words as it splits them; the last is the one that is completed."""
    variables = {"COMP_WORDS": "\n".join(["deeptune", *words]), "COMP_CWORD": str(len(words))}
    return ask(folder, _DEEPTUNE_COMPLETE="complete_bash", **variables).split()


@pytest.mark.parametrize(
    ("words", "offered", "absent"),
    [
        (["ru"], ["run", "runs"], "stop"),
        (["run", "resnet50_"], ["resnet50_partial", "resnet50_lora"], "bert_full"),
        (["presets", "bert_"], ["bert_partial"], "resnet50_partial"),
        (["run", "--set", "train."], ["train.epochs=", "train.device="], "data.path="),
        (["run", "--set", "tuning.meth"], ["tuning.method=", "tuning.method=lora"], "train.epochs="),
        # Bash splits a word at each `=`, and replaces only what stands after it.
        (["run", "--set", "tuning.method", "="], ["partial", "lora", "full"], "tuning.method=lora"),
        (["run", "--set", "tuning.method", "=", "lo"], ["lora"], "full"),
        (["run", "--set", "backbone.name", "=", "resnet1"], ["resnet18", "resnet101"], "resnet50"),
        (["spec", "fields", "train.ep"], ["train.epochs"], "train.device"),
        (["init", "--method", ""], ["partial", "lora", "full"], "resnet18"),
        (["init", "--task", "re"], ["regression"], "classification"),
        (["audit", "--backbone", "swin_"], ["swin_t"], "resnet18"),
        (["weights", "fetch", "gpt"], ["gpt2"], "resnet18"),
    ],
)
def test_bash_is_offered_names_keys_and_values(tmp_path, words, offered, absent):
    found = in_bash(tmp_path, *words)
    assert set(offered) <= set(found)
    assert absent not in found


def test_runs_of_the_current_folder_are_offered(tmp_path):
    for name in ("20240101-abc", "20240102-def"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "spec.toml").write_text("")
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    assert set(in_bash(tmp_path, "predict", "2024")) == {"20240101-abc", "20240102-def"}
    assert set(in_bash(tmp_path, "attach", "2024")) == {"20240101-abc", "20240102-def"}
    assert "latest" in in_bash(tmp_path, "stop", "")


def test_zsh_and_fish_are_offered_whole_words(tmp_path):
    zsh = ask(tmp_path, _DEEPTUNE_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="deeptune run --set tuning.method=l")
    assert '"tuning.method=lora"' in zsh
    fish = ask(
        tmp_path, _DEEPTUNE_COMPLETE="complete_fish", _TYPER_COMPLETE_FISH_ACTION="get-args",
        _TYPER_COMPLETE_ARGS="deeptune run --set tuning.method=l",
    )  # fmt: skip
    assert fish.split() == ["tuning.method=lora"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_for_bash_completes_in_bash(tmp_path):
    command = tmp_path / "deeptune"
    command.write_text(f"#!{sys.executable}\n{SCRIPT}\n")
    command.chmod(0o755)
    lines = f"""
eval "$(env _DEEPTUNE_COMPLETE=source_bash {command})"
COMP_WORDS=(deeptune run --set tuning.method = l); COMP_CWORD=5
_deeptune_completion {command}
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.stdout.split() == ["lora"], done.stderr


def test_completion_imports_nothing_heavy(tmp_path):
    code = SCRIPT.replace("main()", "exec('try: main()\\nexcept SystemExit: print(*sorted(sys.modules))')")
    variables = {"_DEEPTUNE_COMPLETE": "complete_bash", "COMP_WORDS": "deeptune\nrun\n--set\nbackb", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    modules = done.stdout.split()
    assert "backbone.name=" in modules
    assert not {"torch", "pyarrow", "numpy", "scipy", "transformers", "PIL"} & set(modules)
