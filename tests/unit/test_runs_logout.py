"""Whether the login manager would end a run at logout, by its own files."""

from __future__ import annotations

import pytest

from deeptune.runs.logout_check import logout_warning

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
OURS = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope\n"


@pytest.fixture
def machine(tmp_path):
    """`machine({path: text}, ...)` asks on a machine with these files of systemd."""

    def ask(files: dict[str, str], *, cgroup: str = SESSION, user: str = "ada") -> str | None:
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return logout_warning(root=tmp_path, cgroup=cgroup, user=user)

    return ask


KILLS = {"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\n"}


def test_it_warns_with_the_remedy(machine):
    assert "loginctl enable-linger" in machine(KILLS)
    assert "systemd-run --user --scope" in machine(KILLS)


@pytest.mark.parametrize("value", ["yes", "YES", "1", "true", "on", " yes "])
def test_every_way_to_say_yes(machine, value):
    assert machine({"etc/systemd/logind.conf": f"[Login]\n KillUserProcesses ={value}\n"})


@pytest.mark.parametrize(
    "text", ["", "#KillUserProcesses=yes\n", "; KillUserProcesses=yes\n", "KillUserProcesses=no\n"]
)
def test_it_is_silent_where_nothing_is_killed(machine, text):
    assert machine({"etc/systemd/logind.conf": text}) is None
    assert machine({}) is None


def test_only_a_login_session_is_ended(machine):
    assert machine(KILLS, cgroup=OURS) is None
    assert machine(KILLS, cgroup="0::/system.slice/slurmd.service\n") is None
    assert machine(KILLS, cgroup="") is None
    assert machine(KILLS, cgroup="1:name=systemd:/user.slice/user-1000.slice/session-c2.scope\n")


def test_a_drop_in_has_the_last_word_and_the_last_by_name_of_them(machine):
    assert machine({**KILLS, "usr/lib/systemd/logind.conf.d/50-a.conf": "[Login]\nKillUserProcesses=no\n"}) is None
    assert machine({"run/systemd/logind.conf.d/60-b.conf": "[Login]\nKillUserProcesses=yes\n"})
    # A file of the same name in /etc takes the place of the vendor's.
    assert machine({"etc/systemd/logind.conf.d/60-b.conf": "[Login]\n"}) is None


def test_of_the_main_files_only_the_first_is_read(machine):
    assert machine({"etc/systemd/logind.conf": "", "usr/lib/systemd/logind.conf": "KillUserProcesses=yes\n"}) is None


def test_users_who_are_spared(machine):
    assert machine(KILLS, user="root") is None
    spared = {"etc/systemd/logind.conf": "KillUserProcesses=yes\nKillExcludeUsers=ada bob\n"}
    assert machine(spared, user="ada") is None
    assert machine(spared, user="root")
    only = {"etc/systemd/logind.conf": "KillUserProcesses=yes\nKillOnlyUsers=bob\n"}
    assert machine(only, user="ada") is None
    assert machine(only, user="bob")


def test_this_machine_can_be_asked():
    assert logout_warning() is None or "KillUserProcesses" in logout_warning()
