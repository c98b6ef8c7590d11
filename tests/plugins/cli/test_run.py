"""`qp run`: results, the table, JSON, contexts."""

import json
import re
import sys

import pytest

from qp_core import RunReport
from qp_plugins.cli import main

HOSTILE = """
import threading
from qp_core import QuantumPartitioner

class Mute:
    def __repr__(self):
        raise ValueError("no repr")

class Silent(Exception):
    def __str__(self):
        raise ValueError("no text")

def fail(ctx):
    raise Silent

def make():
    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(lambda ctx: Mute(), name="mute")
    partitioner.add_unit(lambda ctx: "\\ud800\\x1b[0m\\n", name="odd\\n\\x1b[31m\\u202e")
    partitioner.add_unit(lambda ctx: "x" * 1000, name="y" * 1000)
    partitioner.add_unit(fail, name="silent")
    return partitioner

def measure(ctx):
    ctx.record_metric("set", {1})
    ctx.record_metric("tuple keys", {(1, 2): 3})
    ctx.record_metric("nan", float("nan"))
    ctx.record_metric("list", [1, (2, None, True), 0.5])
    deep = []
    for _ in range(100):
        deep = [deep]
    ctx.record_metric("deep", deep)
    ctx["lock"] = threading.Lock()

def measured():
    partitioner = QuantumPartitioner()
    partitioner.add_unit(measure, name="unit")
    return partitioner
"""

TABLE = re.compile(
    r"units                2 completed\n"
    r"wall time            \d+\.\d{3} s \(sequential, 1 worker, fifo\)\n"
    r"critical path        \d+\.\d{3} s: first -> second\n"
    r"parallel efficiency  \d+% \(speed-up \d+\.\d{2}\)\n"
    r"failures             none\n"
)


def test_a_run_prints_each_result_then_a_table(qp, flows):
    """Results and table on standard output, progress on standard error."""
    said = qp("run", f"{flows}:good", "--mode", "sequential")
    assert said.code == 0
    assert said.out.startswith("first: 1\nsecond: 2\n\n")
    assert TABLE.fullmatch(said.out.partition("\n\n")[2])
    assert re.fullmatch(r"(\d/2 units\n)*2/2 units\n", said.err)  # one line, and one more every five seconds


def test_a_failed_unit_is_told_with_its_reason_and_what_was_skipped_with_its_cause(qp, flows):
    """And the exit code is 1."""
    said = qp("run", f"{flows}:bad")
    assert said.code == 1
    assert said.out.startswith(
        "first: 1\nsecond: 2\nboom: failed, ZeroDivisionError: division by zero\n"
        "after: skipped, because boom did not complete\n\n"
        "units                2 completed, 1 failed, 1 skipped\n"
    )
    assert said.out.endswith("failures             boom\n")
    assert re.match(r"(\d/4 units(, 1 failed)?\n)*4/4 units, 1 failed\n", said.err)


def test_the_empty_graph_has_a_table_alone(qp, flows):
    """No blank line before it."""
    said = qp("run", f"{flows}:empty")
    assert said.code == 0
    assert said.out.startswith("units                none\n")


def test_a_graph_that_cannot_run_is_not_done(qp, flows):
    """It is no matter of how it was asked for."""
    said = qp("run", f"{flows}:ring")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("qp run: circular dependency of 2 units")


def test_quiet_leaves_out_the_progress(qp, flows):
    """Standard error is empty."""
    assert qp("run", f"{flows}:good", "--quiet").err == ""


@pytest.mark.parametrize(
    ("context", "first"),
    [pytest.param('{"n": 41}', 41, id="json"), pytest.param("@context.json", "from a file", id="file")],
)
def test_the_context_is_json_or_a_file_of_it(qp, flows, folder, context, first):
    """Its keys are what units see."""
    (folder / "context.json").write_text('{"n": "from a file"}', encoding="utf-8")
    said = qp("run", f"{flows}:good", "--context", context)
    assert f"first: {first!r}\n" in said.out


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        pytest.param("{", "the context '{' is no JSON: ", id="half"),
        pytest.param("{'n': 1}", "is no JSON: ", id="Python, not JSON"),
        pytest.param("", "the context '' is no JSON: ", id="nothing"),
        pytest.param("[1]", "the context is a JSON list; it must be an object", id="list"),
        pytest.param("null", "the context is a JSON NoneType; it must be an object", id="null"),
        pytest.param("@nowhere.json", "the context '@nowhere.json' cannot be read: [Errno 2]", id="no file"),
        pytest.param("@.", "the context '@.' cannot be read: [Errno 21]", id="folder"),
        pytest.param("@binary", "the context '@binary' is no JSON: 'utf-8' codec", id="no text"),
        pytest.param("@deep", "the context '@deep' is no JSON: maximum recursion depth", id="too deep"),
        pytest.param('{"first": 1}', "the context's key 'first' is also the id of a unit", id="key taken"),
    ],
)
def test_a_context_that_is_none_is_used_wrongly(qp, flows, folder, context, problem):
    """Nothing has run."""
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    (folder / "deep").write_text("[" * 100_000, encoding="utf-8")
    said = qp("run", f"{flows}:good", "--context", context)
    assert (said.code, said.out) == (2, "")
    assert problem in said.err


@pytest.mark.parametrize(
    ("option", "name", "problem"),
    [
        pytest.param("--mode", "treads", "there is no executor named 'treads'; there are: ", id="mode"),
        pytest.param(
            "--mode", "custom", "--mode custom needs an executor, which a command line cannot give", id="custom"
        ),
        pytest.param("--strategy", "fif", "there is no strategy named 'fif'; there are: 'fifo'", id="strategy"),
    ],
)
def test_a_name_that_is_not_there_is_used_wrongly(qp, flows, option, name, problem):
    """The message lists what there is."""
    said = qp("run", f"{flows}:good", option, name)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"qp run: {problem}")


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_mode_workers_and_strategy_reach_the_run(qp, flows, mode):
    """The table says which."""
    said = qp("run", f"{flows}:good", "--mode", mode, "--workers", 3, "--strategy", "priority")
    workers = "1 worker" if mode == "sequential" else "3 workers"
    assert f"({mode}, {workers}, priority)" in said.out


def test_without_a_bound_the_table_says_so(qp, module):
    """In async mode, unless one is given."""
    name = module("from qp_core import QuantumPartitioner\ndef make():\n    return QuantumPartitioner()")
    assert "(async, any number of workers, fifo)" in qp("run", f"{name}:make", "--mode", "async").out


def test_json_holds_results_as_text_and_the_report(qp, flows):
    """One document on standard output, which a report can be read back from."""
    said = qp("run", f"{flows}:bad", "--json")
    assert said.code == 1
    data = json.loads(said.out)
    assert data["results"] == {"first": "1", "second": "2"}
    report = RunReport.from_data(data["report"])
    assert [record.state.value for record in report.units.values()] == ["completed", "completed", "failed", "skipped"]
    assert "units" not in said.err.partition(" ")[0]


def test_no_id_result_or_error_can_spoil_the_output(qp, module):
    """Escaped, cut, or told what is wrong with it; one line each."""
    said = qp("run", f"{module(HOSTILE)}:make")
    assert said.code == 1
    lines = said.out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[0] == "mute: <Mute, whose __repr__ raised ValueError>"
    assert lines[1] == "odd\\n\\x1b[31m\\u202e: '\\ud800\\x1b[0m\\n'"
    assert lines[2] == "y" * 59 + "…: '" + "x" * 198 + "…"
    assert lines[3].endswith("Silent: <its __str__ raised ValueError>")


def test_json_survives_what_json_lacks(qp, module):
    """Results and metrics of any kind; every reader takes it."""
    name = module(HOSTILE)
    strict = {"parse_constant": lambda constant: pytest.fail(f"{constant} is no JSON")}
    results = json.loads(qp("run", f"{name}:make", "--json").out, **strict)["results"]
    assert results["mute"] == "<Mute, whose __repr__ raised ValueError>"
    assert len(results["y" * 1000]) == 1002
    data = json.loads(qp("run", f"{name}:measured", "--json").out, **strict)
    metrics = data["report"]["units"]["unit"]["metrics"]
    assert metrics["set"] == "{1}"
    assert metrics["tuple keys"] == {"(1, 2)": 3}
    assert metrics["nan"] == "nan"
    assert metrics["list"] == [1, [2, None, True], 0.5]
    assert data["report"]["units"]["unit"]["writes"] == ["lock"]


def test_many_failures_are_counted_not_listed(qp, module):
    """In the table; each has its line above."""
    name = module(
        """
        from qp_core import QuantumPartitioner

        def make():
            partitioner = QuantumPartitioner()
            for number in range(20):
                partitioner.add_unit(lambda ctx: 1 / 0, name=f"u{number}")
            return partitioner
        """
    )
    said = qp("run", f"{name}:make")
    assert said.out.count("failed, ZeroDivisionError") == 20
    assert said.out.endswith("failures             u0, u1, u2, u3, u4, u5, u6, u7 and 12 more\n")


def test_a_long_critical_path_shows_its_beginning_and_its_end(qp, module):
    """Six units of thirty."""
    name = module(
        """
        from qp_core import QuantumPartitioner

        def make():
            partitioner = QuantumPartitioner()
            for number in range(30):
                partitioner.add_unit(lambda ctx: None, [f"u{number - 1}"] if number else [], f"u{number}")
            return partitioner
        """
    )
    assert ": u0 -> u1 -> u2 -> u3 -> u4 -> u5 -> … -> u28 -> u29\n" in qp("run", f"{name}:make").out


def test_a_unit_that_could_not_be_stopped_is_told(qp, module):
    """It is out of time, and still running in its thread."""
    name = module(
        """
        import threading
        from qp_core import QuantumPartitioner

        FREE = threading.Event()

        def make():
            partitioner = QuantumPartitioner()
            partitioner.add_unit(lambda ctx: FREE.wait(100), name="hangs", timeout=0.01)
            return partitioner
        """
    )
    said = qp("run", f"{name}:make")
    sys.modules[name].FREE.set()
    assert said.code == 1
    assert said.out.startswith("hangs: out of time, ")
    assert said.out.endswith("failures             hangs\nstill running        hangs\n")


def test_what_a_plugin_broke_is_told_after_what_had_completed(qp, module):
    """The results so far, then one line that names the plugin."""
    name = module(
        """
        from qp_core import CachingQuantumPartitioner

        class Broken:
            def get(self, key):
                raise OSError("no disk")

            def put(self, key, value):
                pass

        def make():
            partitioner = CachingQuantumPartitioner(max_workers=1, cache=Broken())
            partitioner.add_unit(lambda ctx: 1, name="plain")
            partitioner.add_unit(lambda ctx: 1, ["plain"], "cached", metadata={"cacheable": True})
            return partitioner
        """
    )
    said = qp("run", f"{name}:make", "--quiet")
    assert said.code == 1
    assert said.out.startswith("plain: 1\n")
    assert "qp run: plugin 'Broken', Cache.get: raised OSError: no disk" in said.err


def test_an_error_of_the_engine_after_units_have_run_is_not_taken_for_wrong_usage(module, folder):
    """It keeps its traceback: a ValueError here is nobody's argument."""
    name = module(
        """
        from qp_core import QuantumPartitioner

        class Breaking(QuantumPartitioner):
            def execute(self, *args, **options):
                super().execute(*args, **options)
                raise ValueError("of our own making")

        def make():
            partitioner = Breaking()
            partitioner.add_unit(lambda ctx: 1, name="unit")
            return partitioner
        """
    )
    with pytest.raises(ValueError, match="of our own making"):
        main(["run", f"{name}:make", "--quiet"])


@pytest.mark.slow
def test_the_installed_command_runs_processes_too(shell, flows):
    """Its main module is a script that has no guard."""
    said = shell(f"{{qp}} run {flows}:good --mode process --quiet")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("first: 1\nsecond: 2\n")
    assert "(process, 2 workers, fifo)" in said.out


@pytest.mark.slow
def test_what_units_print_stays_apart_from_json(shell, module):
    """A unit that prints spoils its own document, and we do not help it: progress goes elsewhere."""
    name = module(
        "from qp_core import QuantumPartitioner\ndef make():\n    p = QuantumPartitioner()\n    p.add_unit(len)\n    return p"
    )
    assert json.loads(shell(f"{{qp}} run {name}:make --json").out)["results"] == {"unit_0": "0"}
