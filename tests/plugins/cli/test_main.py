"""The command itself: how it finds subcommands, words errors and ends."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from qp_core import PluginError, Plugins, QuantumPartitionerError
from qp_plugins import cli


class Fake:
    """A command that does what it is told to."""

    help = "do 100% of what it is told to"

    def __init__(self, does=lambda: 0, configures=lambda parser: None):
        self._does = does
        self.configure = configures

    def run(self, args):
        """Do it."""
        return self._does()


@pytest.fixture
def only(monkeypatch):
    """Has `qp` find these commands and no other."""

    def found(**commands):
        class Some:
            def provided(self, seam):
                assert seam == "commands"
                return commands

        monkeypatch.setattr(Plugins, "installed", staticmethod(Some))

    return found


def raising(error):
    """What a command may do."""

    def does():
        raise error

    return does


def test_help_lists_every_subcommand_that_is_installed(qp):
    """Ours and the adapters', each with its line."""
    said = qp("--help")
    assert said.code == 0
    for name, command in Plugins.installed().provided("commands").items():
        assert f"{name} " in said.out
        assert command.help.split()[0] in said.out


@pytest.mark.parametrize("command", ["run", "plan"])
def test_each_subcommand_has_help_of_its_own(qp, command):
    """It names what it takes."""
    said = qp(command, "--help")
    assert said.code == 0
    assert "MODULE:FUNCTION" in said.out


def test_the_version_is_that_of_the_distribution(qp):
    """As pip shows it."""
    assert qp("--version").out == f"qp {version('quantum-partitioner')}\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        pytest.param([], "the following arguments are required: COMMAND", id="nothing"),
        pytest.param(["rum"], "invalid choice: 'rum'", id="no such command"),
        pytest.param(["run"], "the following arguments are required: MODULE:FUNCTION", id="no target"),
        pytest.param(["plan", "a:b", "--dot", "--json"], "not allowed with argument", id="two forms"),
        pytest.param(["run", "a:b", "--quie"], "unrecognized arguments: --quie", id="no abbreviations"),
        pytest.param(
            ["run", "a:b", "--workers", "0"], "argument --workers: '0' is no whole number from 1", id="no workers"
        ),
        pytest.param(
            ["run", "a:b", "--workers", "x"], "argument --workers: 'x' is no whole number from 1", id="no number"
        ),
    ],
)
def test_arguments_that_cannot_be_parsed_end_with_2(qp, arguments, problem):
    """Argparse's own words, and its exit code."""
    said = qp(*arguments)
    assert said.code == 2
    assert problem in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("does", "code", "said"),
    [
        pytest.param(lambda: 0, 0, "", id="done"),
        pytest.param(lambda: 7, 7, "", id="any code"),
        pytest.param(raising(cli.UsageError("used wrongly")), 2, "qp fake: used wrongly\n", id="used wrongly"),
        pytest.param(raising(QuantumPartitionerError("not done")), 1, "qp fake: not done\n", id="not done"),
        pytest.param(raising(PluginError("p", "h", "broke")), 1, "qp fake: plugin 'p', h: broke\n", id="plugin"),
        pytest.param(raising(KeyboardInterrupt()), 130, "qp fake: stopped\n", id="Ctrl-C"),
        pytest.param(raising(PermissionError(13, "denied", "x")), 1, "qp fake: [Errno 13] denied: 'x'\n", id="OSError"),
        pytest.param(raising(BrokenPipeError()), 1, "", id="broken pipe"),
        pytest.param(raising(cli.UsageError("\ud800 and \x00")), 2, "qp fake: \\ud800 and \x00\n", id="unprintable"),
    ],
)
def test_how_a_command_ends_is_told_by_the_exit_code_and_one_line(only, qp, does, code, said):
    """On standard error, without a traceback."""
    only(fake=Fake(does))
    ended = qp("fake")
    assert (ended.code, ended.out, ended.err) == (code, "", said)


def test_an_error_that_nobody_has_foreseen_keeps_its_traceback(only):
    """It is a mistake in the command, and whoever mends it needs to see where."""
    only(fake=Fake(raising(ZeroDivisionError())))
    with pytest.raises(ZeroDivisionError):
        cli.main(["fake"])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Fake(configures=raising(ValueError("no arguments"))), id="cannot be configured"),
        pytest.param(object(), id="is no command"),
    ],
)
def test_a_command_that_is_broken_is_named_and_left_out(only, qp, broken):
    """The others work."""
    only(broken=broken, fake=Fake(lambda: 5))
    said = qp("fake")
    assert said.code == 5
    assert said.err.startswith("qp: the command 'broken' is broken and left out: ")
    assert qp("broken").code == 2


def test_a_per_cent_sign_in_a_commands_help_is_one(only, qp):
    """Argparse takes it for a format."""
    only(fake=Fake())
    assert "do 100% of what it is told to" in qp("--help").out


def test_plugins_that_conflict_are_an_error_and_no_traceback(monkeypatch, qp):
    """Before any command is known."""

    def conflict():
        msg = "provides 'run' too"
        raise PluginError("other", "qp_commands", msg)

    monkeypatch.setattr(Plugins, "installed", staticmethod(conflict))
    said = qp("run", "a:b")
    assert (said.code, said.err) == (1, "qp: plugin 'other', qp_commands: provides 'run' too\n")


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_no_reason_to_fail(monkeypatch, qp, flows, closed):
    """Python has None there then; the exit code is all that is left to tell."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, closed, None)
        assert cli.main(["run", f"{flows}:good"]) == 0
        assert cli.main(["run", f"{flows}:nothing"]) == 2
        assert cli.main(["plan", f"{flows}:good"]) == 0


# ---- the installed script


@pytest.mark.slow
@pytest.mark.parametrize("units", [1, 20_000], ids=["little", "much"])
def test_a_reader_that_has_seen_enough_ends_the_command_quietly(no_reader, script, module, units):
    """Whether it is noticed while writing or only at the end: no traceback, and nothing from the interpreter."""
    name = module(
        f"""
        from qp_core import QuantumPartitioner

        def make():
            partitioner = QuantumPartitioner()
            for number in range({units}):
                partitioner.add_unit(len, [f"u{{number - 1}}"] if number else [], f"u{{number}}")
            return partitioner
        """
    )
    said = no_reader(script, "plan", f"{name}:make")
    assert (said.code, said.err) == (1, "")
    assert no_reader(script, "plan", f"{name}:make", errors=True).code == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_output_that_cannot_be_written_is_an_error(shell, flows):
    """The disk is full: said once, and the exit code says it too."""
    said = shell(f"{{qp}} plan {flows}:good > /dev/full")
    assert said.code == 1
    assert said.err == "qp plan: [Errno 28] No space left on device\n"


@pytest.mark.slow
def test_streams_that_are_closed_from_the_start_do_not_matter(shell, flows):
    """As a daemon may start it."""
    assert shell(f"{{qp}} run {flows}:good >&- 2>&-").code == 0
    assert shell(f"{{qp}} run {flows}:bad >&- 2>&-").code == 1


@pytest.mark.slow
def test_a_setting_that_cannot_be_understood_is_an_error(shell, flows):
    """It is read before any command is known."""
    said = shell(f"{{qp}} plan {flows}:good", QP_GRACE="soon")
    assert said.code == 1
    assert said.err == "qp: setting QP_GRACE is 'soon'; expected seconds above 0, such as 2.5\n"


@pytest.mark.slow
def test_an_encoding_without_the_letters_is_no_reason_to_fail(shell, module):
    """They are escaped."""
    name = module(
        """
        from qp_core import QuantumPartitioner

        def make():
            partitioner = QuantumPartitioner()
            partitioner.add_unit(lambda ctx: "é", name="🦆")
            return partitioner
        """
    )
    said = shell(f"{{qp}} run {name}:make --quiet", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert said.code == 0, said.err
    assert said.out.startswith("\\U0001f986: '\\xe9'\n")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("mode", ["thread", "sequential", "async", "process"])
def test_ctrl_c_ends_the_command_with_130_and_what_had_completed(folder, script, module, mode):
    """The first unit's result, the states of the others, one line on standard error; within the grace and a moment."""
    name = module(
        """
        import time
        from qp_core import QuantumPartitioner

        def hang(ctx):
            print("hanging", flush=True)
            time.sleep(3600)

        def make():
            partitioner = QuantumPartitioner()
            partitioner.add_unit(lambda ctx: 42, name="done")
            partitioner.add_unit(hang, ["done"], "hangs")
            partitioner.add_unit(lambda ctx: 1, ["hangs"], "waits")
            return partitioner
        """
    )
    # One worker: of a second process that is just being started the signal would make a lost one, since it has no handler yet.
    command = [script, "run", f"{name}:make", "--mode", mode, "--workers", "1", "--quiet"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "QP_GRACE": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "hanging\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out.startswith("done: 42\nhangs: canceled\nwaits: canceled\n")
    assert "stopped              interrupted" in out
    assert err.endswith("qp run: stopped\n")
    assert "Traceback" not in err
