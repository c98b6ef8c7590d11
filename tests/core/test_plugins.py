"""Plugins as they are installed: distributions with entry points, found, loaded when needed, left out when broken, never silently."""

import importlib
import itertools
import json
import logging
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from qp_core import (
    CachingQuantumPartitioner,
    MissingExtraError,
    PluginConflictError,
    PluginError,
    Plugins,
    QuantumPartitioner,
    Settings,
    UnknownNameError,
)
from qp_core.plugins import OWN_DISTRIBUTION, SEAMS

ROOT = Path(__file__).parents[2]
_numbers = itertools.count()


class Site:
    """A folder on sys.path, into which distributions are written as an installer would.

    Args:
        folder: The folder.
    """

    def __init__(self, folder):
        self.folder = folder
        self.modules = []

    def module(self, source):
        """Write a module under a name that was never used before.

        Returns:
            The name.
        """
        name = f"qp_site_{next(_numbers)}"
        (self.folder / f"{name}.py").write_text(
            "from qp_core import *\nfrom qp_core import hookimpl\n" + textwrap.dedent(source), encoding="utf-8"
        )
        self.modules.append(name)
        importlib.invalidate_caches()
        return name

    def distribution(self, name, version="1.0", **entries):
        """Write a distribution; each entry point is `seam__choice="source of its module"`, or the name of a module.

        Returns:
            The names of the modules, in the order of the entries.
        """
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        lines, modules = ["[quantum_partitioner]"], []
        for entry, source in entries.items():
            modules.append(source if source.isidentifier() else self.module(source))
            lines.append(f"{entry.replace('__', '.')} = {modules[-1]}")
        (info / "entry_points.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        importlib.invalidate_caches()
        return modules


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path for throw-away distributions."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    made = Site(folder)
    yield made
    for name in made.modules:
        sys.modules.pop(name, None)


def found(plugins, name):
    """What the listing says of one plugin."""
    return next(info for info in plugins.listing() if info.name == name)


def run_python(site, code, **environment):
    """Run a program in a new process with the site on its path; returns what it printed, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**_environment(), "PYTHONPATH": str(site.folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _environment():
    import os  # noqa: PLC0415 - only needed here

    return dict(os.environ)


STRATEGY = """
class Last:
    def order(self, plan):
        return [unit.id for unit in reversed(plan.nodes)]

@hookimpl
def qp_strategies():
    return {"last": Last}
"""

# ---- the built-ins


def test_every_built_in_is_registered_through_an_entry_point_of_our_own_distribution():
    """What pyproject.toml lists is what is found, and nothing of it is blocked or broken."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    ours = {info.name: info for info in Plugins(Settings()).listing() if info.distribution == OWN_DISTRIBUTION}
    assert {name: info.source for name, info in ours.items()} == listed["quantum_partitioner"]
    plugins = Plugins(Settings())
    for seam in SEAMS:
        plugins.provided(seam)
    plugins.listeners([])
    assert {info.state for info in plugins.listing() if info.name in ours} <= {"loaded", "found"}
    assert {info.name for info in plugins.listing() if info.state == "found" and info.name in ours} == {
        name for name in ours if name.startswith("fallbacks.")
    }


@pytest.mark.parametrize(
    ("seam", "names"),
    [
        pytest.param("executors", {"sequential", "thread", "async", "custom", "process"}, id="executors"),
        pytest.param("strategies", {"fifo", "priority"}, id="strategies"),
        pytest.param("caches", {"memory"}, id="caches"),
        pytest.param("observers", {"callbacks", "metrics", "progress"}, id="observers"),
        pytest.param("commands", {"run", "plan", "ingest"}, id="commands"),
    ],
)
def test_the_core_provides_nothing_by_name(seam, names):
    """With the built-ins blocked there is nothing at all; without, there is what they say."""
    built_in = tuple(info.name for info in Plugins(Settings()).listing())
    assert Plugins(Settings(blocked_plugins=built_in)).provided(seam) == {}
    assert names <= set(Plugins(Settings()).provided(seam))
    assert list(Plugins(Settings()).provided(seam)) == sorted(Plugins(Settings()).provided(seam))


def test_without_executors_a_run_says_so():
    """Blocked is gone: nothing takes the place of a built-in behind the user's back."""
    plugins = Plugins(Settings(blocked_plugins=("executors.thread",)))
    partitioner = QuantumPartitioner(plugins=plugins)
    partitioner.add_unit(lambda _: 1)
    with pytest.raises(UnknownNameError, match="no executor named 'thread'; there are: 'async', 'custom'"):
        partitioner.execute({})
    assert partitioner.execute({}, "sequential") == {"unit_0": 1}
    assert found(plugins, "executors.thread").state == "blocked"


def test_without_fallback_plugins_a_failure_stays_one():
    """They too are plugins like any other."""
    plugins = Plugins(Settings(blocked_plugins=("fallbacks.value", "fallbacks.function")))
    partitioner = QuantumPartitioner(plugins=plugins)
    partitioner.add_unit(lambda _: 1 / 0, metadata={"fallback_value": 1}, fallback=lambda _, __: 2)
    assert partitioner.execute({}) == {}


def test_the_plugins_that_are_installed_are_looked_up_once_a_process():
    """Every partitioner shares them."""
    assert Plugins.installed() is Plugins.installed()
    assert QuantumPartitioner()._installed_plugins() is Plugins.installed()


# ---- found, and loaded only when needed


@pytest.mark.slow
def test_listing_imports_nothing_and_a_seam_imports_only_its_own(site):
    """In a fresh process: listing, then one seam, then a run."""
    (odd,) = site.distribution("odd", strategies__odd=STRATEGY)
    code = f"""
        import json, sys
        from qp_core import Plugins, QuantumPartitioner
        def seen():
            return sorted(name for name in sys.modules if name.startswith(("qp_plugins.", "atlas_adapters", {odd!r})))
        plugins = Plugins.installed()
        names = [info.name for info in plugins.listing()]
        told = [seen()]
        plugins.provided("caches")
        told.append(seen())
        partitioner = QuantumPartitioner()
        partitioner.add_unit(lambda ctx: 1)
        partitioner.execute({{}}, "sequential")
        told.append(seen())
        print(json.dumps([names, *told]))
    """
    names, listed, cached, run = run_python(site, code)
    assert "strategies.odd" in names
    assert listed == []
    assert cached == ["qp_plugins.caches", "qp_plugins.caches.memory"]
    assert odd in run
    assert not [name for name in run if name.startswith(("qp_plugins.fallbacks", "qp_plugins.cli", "atlas_adapters"))]


def test_a_strangers_plugin_works_in_every_seam(site):
    """An executor, a strategy, a cache, an observer and a command, from one distribution, by name."""
    site.distribution(
        "stranger",
        "2.5",
        executors__backwards="""
            class Backwards:
                def run(self, run):
                    run.begin(None)
                    run.work_here(run.new_worker())
            @hookimpl
            def qp_executors():
                return {"here": lambda custom: Backwards()}
        """,
        strategies__last=STRATEGY,
        caches__numbered="""
            class Numbered(dict):
                def get(self, key):
                    return super().get(key, MISS)
                def put(self, key, value):
                    self[key] = value
                def delete(self, key):
                    self.pop(key, None)
                def stats(self):
                    return {"entries": len(self), "hits": 0, "misses": 0}
            @hookimpl
            def qp_caches():
                return {"numbered": Numbered}
        """,
        telemetry__list="""
            class Ends(list):
                def qp_unit_finished(self, event):
                    self.append(event.unit_id)
            made = []
            def make():
                made.append(Ends())
                return made[-1]
            @hookimpl
            def qp_observers():
                return {"ends": make}
        """,
        commands__greet="""
            class Greet:
                help = "greet"
            @hookimpl
            def qp_commands():
                return {"greet": Greet()}
        """,
    )
    plugins = Plugins(Settings())
    info = found(plugins, "strategies.last")
    assert (info.distribution, info.version, info.state, info.reason) == ("stranger", "2.5", "found", None)
    partitioner = CachingQuantumPartitioner(plugins=plugins, cache="numbered")
    for number in range(3):
        partitioner.add_unit(lambda ctx: ctx.unit_id, metadata={"cacheable": True}, name=f"u{number}")
    result = partitioner.execute({}, "here", strategy="last", telemetry=["ends"])
    assert result.report.mode == "here"
    assert len(partitioner.cache) == 3
    assert sys.modules[found(plugins, "telemetry.list").source].made == [["u2", "u1", "u0"]]
    assert plugins.provided("commands")["greet"].help == "greet"
    assert found(plugins, "strategies.last").state == "loaded"


def test_a_plugins_own_mode_may_take_a_custom_executor(site):
    """It is handed what the caller gave, whatever that is: only the built-in modes know that they use none."""
    (module,) = site.distribution(
        "stranger",
        executors__remote="""
            given = []
            class Remote:
                def __init__(self, custom):
                    given.append(custom)
                def run(self, run):
                    run.begin(None)
                    run.work_here(run.new_worker())
            @hookimpl
            def qp_executors():
                return {"remote": Remote}
        """,
    )
    partitioner = QuantumPartitioner(plugins=Plugins(Settings()))
    partitioner.add_unit(lambda _: 1, name="a")
    assert partitioner.execute({}, "remote", custom_executor="tcp://somewhere") == {"a": 1}
    assert partitioner.execute({}, "remote") == {"a": 1}
    assert sys.modules[module].given == ["tcp://somewhere", None]


def test_a_plugin_whose_name_says_no_seam_is_loaded_with_whichever_comes_first(site):
    """So that nothing it offers is missed."""
    site.distribution("loose", whatever=STRATEGY)
    plugins = Plugins(Settings())
    plugins.provided("caches")
    assert found(plugins, "whatever").state == "loaded"
    assert "last" in plugins.provided("strategies")


def test_an_entry_point_may_name_an_object_in_a_module(site):
    """`module:object`, where the object has the hooks."""
    name = site.module("""
        class Offers:
            @hookimpl
            def qp_strategies(self):
                return {"object": object}
        offers = Offers()
    """)
    site.distribution("with-object", strategies__object=name)
    (site.folder / "with_object-1.0.dist-info" / "entry_points.txt").write_text(
        f"[quantum_partitioner]\nstrategies.object = {name}:offers\n", encoding="utf-8"
    )
    assert "object" in Plugins(Settings()).provided("strategies")


def test_observe_hooks_of_a_plugin_hear_of_every_run(site, caplog):
    """With or without the event as an argument; one that raises is named by its plugin, and the others hear on."""
    heard, broken = site.distribution(
        "hears",
        telemetry__a="""
            told = []
            @hookimpl
            def qp_unit_finished(event):
                told.append(event.unit_id)
            @hookimpl
            def qp_run_finished():
                told.append("over")
        """,
        telemetry__b="""
            @hookimpl
            def qp_unit_finished(event):
                raise RuntimeError("broken")
        """,
    )
    partitioner = QuantumPartitioner(default_execution_mode="sequential", plugins=Plugins(Settings()))
    partitioner.add_unit(lambda _: 1, name="one")
    partitioner.add_unit(lambda _: 1, name="two")
    for _ in range(2):
        assert partitioner.execute({}).ok
    assert sys.modules[heard].told == ["one", "two", "over"] * 2
    named = "observer 'telemetry.b' raised in qp_unit_finished and is switched off for this run: RuntimeError: broken"
    assert [message for message in caplog.messages if "observer" in message] == [named, named]
    assert broken in sys.modules


# ---- broken

BROKEN = [
    pytest.param("raise ImportError('no such thing')", "ImportError: no such thing", id="import_error"),
    pytest.param("import a_library_that_nobody_has", "ModuleNotFoundError", id="missing_library"),
    pytest.param("raise SystemExit('I quit')", "SystemExit: I quit", id="system_exit"),
    pytest.param("def broken(:", "SyntaxError", id="syntax_error"),
    pytest.param("raise RuntimeError", "RuntimeError", id="any_error"),
    pytest.param("@hookimpl\ndef qp_strategy(): pass", "unknown hook 'qp_strategy'", id="unknown_hook"),
    pytest.param("@hookimpl\ndef qp_strategies(plan): pass", "{'plan'}", id="unknown_argument"),
    pytest.param("@hookimpl(wrapper=True)\ndef qp_strategies(): yield", "wraps qp_strategies", id="wrapper"),
    pytest.param(
        "@hookimpl(wrapper=True)\ndef qp_unit_finished(event): yield", "wraps qp_unit_finished", id="observe_wrapper"
    ),
    pytest.param("@hookimpl(hookwrapper=True)\ndef qp_strategies(): yield", "wraps qp_strategies", id="old_wrapper"),
    pytest.param("@hookimpl\ndef qp_strategies(): raise ValueError('odd')", "ValueError: odd", id="provider_raises"),
    pytest.param("@hookimpl\ndef qp_strategies(): raise SystemExit", "SystemExit", id="provider_exits"),
    pytest.param("@hookimpl\ndef qp_strategies(): return None", "answered None", id="provides_none"),
    pytest.param("@hookimpl\ndef qp_strategies(): return ['last']", "answered ['last']", id="provides_a_list"),
    pytest.param("@hookimpl\ndef qp_strategies(): return {1: dict}", "the name 1", id="provides_a_number"),
    pytest.param("@hookimpl\ndef qp_strategies(): return {'': dict}", "the name ''", id="provides_no_name"),
    pytest.param("@hookimpl\ndef qp_strategies(): return {'last': 3}", "answered 3 for 'last'", id="cannot_be_called"),
]


@pytest.mark.parametrize(("source", "reason"), BROKEN)
def test_a_plugin_that_is_broken_is_named_and_left_out(site, caplog, source, reason):
    """One warning with plugin, distribution, module and reason; its seam and everything else work on."""
    _, good = site.distribution("crooked", strategies__bad=source, strategies__good=STRATEGY)
    plugins = Plugins(Settings())
    with caplog.at_level(logging.WARNING, "qp_core"):
        assert set(plugins.provided("strategies")) >= {"fifo", "last", "priority"}
        partitioner = QuantumPartitioner(plugins=plugins)
        partitioner.add_unit(lambda _: 1)
        for _ in range(2):
            assert partitioner.execute({}, strategy="last").ok
    info = found(plugins, "strategies.bad")
    assert info.state == "broken"
    assert reason in info.reason
    (message,) = [message for message in caplog.messages if "crooked" in message]
    assert message == f"plugin 'strategies.bad' of crooked ({info.source}) is broken and left out: {info.reason}"
    assert (found(plugins, "strategies.good").state, found(plugins, "strategies.good").source) == ("loaded", good)


def test_who_asks_for_what_a_broken_plugin_would_provide_is_told_of_it(site):
    """Beside what there is."""
    site.distribution("crooked", strategies__odd="import a_library_that_nobody_has")
    with pytest.raises(UnknownNameError, match="no strategy named 'odd'") as caught:
        Plugins(Settings()).make("strategies", "odd")
    (note,) = caught.value.__notes__
    assert note.startswith("plugin 'strategies.odd' of crooked is broken: ModuleNotFoundError")


def test_a_plugin_that_is_broken_hears_of_nothing(site):
    """Left out is left out whole: a good hook beside the bad one is not called either."""
    (name,) = site.distribution(
        "half",
        telemetry__half="""
            told = []
            @hookimpl
            def qp_unit_finished(event):
                told.append(event)
            @hookimpl
            def qp_unit_vanished(event):
                told.append(event)
        """,
    )
    partitioner = QuantumPartitioner(plugins=Plugins(Settings()))
    partitioner.add_unit(lambda _: 1)
    assert partitioner.execute({}).ok
    assert sys.modules[name].told == []


def test_an_entry_point_that_names_nothing_is_broken(site, caplog):
    """Neither module nor attribute is there."""
    site.distribution("gone", strategies__gone="a_module_that_is_gone")
    name = site.module("")
    site.distribution("hollow", strategies__hollow=name)
    (site.folder / "hollow-1.0.dist-info" / "entry_points.txt").write_text(
        f"[quantum_partitioner]\nstrategies.hollow = {name}:nothing\n", encoding="utf-8"
    )
    plugins = Plugins(Settings())
    assert "fifo" in plugins.provided("strategies")
    assert "ModuleNotFoundError" in found(plugins, "strategies.gone").reason
    assert "AttributeError" in found(plugins, "strategies.hollow").reason
    assert sum("left out" in message for message in caplog.messages) == 2


def test_ctrl_c_while_a_plugin_is_imported_does_not_lose_it(site):
    """It is loaded the next time."""
    name = site.module(f"""
        import sys
        if not hasattr(sys, "qp_site_tried"):
            sys.qp_site_tried = True
            raise KeyboardInterrupt
        {textwrap.indent(STRATEGY, " " * 8).lstrip()}
    """)
    site.distribution("slow-import", strategies__a=name, strategies__b=STRATEGY.replace('"last"', '"other"'))
    plugins = Plugins(Settings())
    try:
        with pytest.raises(KeyboardInterrupt):
            plugins.provided("strategies")
        assert set(plugins.provided("strategies")) >= {"fifo", "last", "other", "priority"}
    finally:
        del sys.qp_site_tried


def test_a_plugin_may_use_the_plugins_while_it_is_imported(site):
    """A module that runs something at import finds what there is, itself excluded, and is not registered twice."""
    name = site.module("""
        import qp_site_state
        first = sorted(qp_site_state.plugins.provided("caches"))
        @hookimpl
        def qp_caches():
            return {"late": dict}
    """)
    state = site.folder / "qp_site_state.py"
    state.write_text("plugins = None\n", encoding="utf-8")
    site.modules.append("qp_site_state")
    site.distribution("eager", caches__eager=name)
    plugins = Plugins(Settings())
    importlib.import_module("qp_site_state").plugins = plugins
    plugins.provided("caches")
    assert found(plugins, "caches.eager").state == "loaded"
    assert sys.modules[name].first == ["memory"]


@pytest.mark.slow
def test_a_broken_plugin_does_not_stop_the_command(site):
    """`qp --help` lists the others, and the log names it."""
    site.distribution("crooked", commands__bad="raise SystemExit(9)", telemetry__bad="def broken(:")
    code = """
        import contextlib, io, json
        from qp_plugins.cli import main
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main(["--help"])
        print(json.dumps(said.getvalue()))
    """
    assert "plan" in run_python(site, code)


# ---- conflicts


def test_two_plugins_that_provide_one_name_are_an_error_that_names_both_and_their_distributions(site):
    """Which of them is meant, only the user can say: by blocking one."""
    site.distribution("dist-one", strategies__one=STRATEGY)
    site.distribution("dist-two", strategies__two=STRATEGY)
    with pytest.raises(PluginConflictError) as caught:
        Plugins(Settings()).provided("strategies")
    text = str(caught.value)
    assert all(word in text for word in ("'last'", "'strategies.one'", "dist-one", "'strategies.two'", "dist-two"))
    assert isinstance(caught.value, PluginError)
    assert caught.value.hook == "qp_strategies"
    settled = Plugins(Settings(blocked_plugins=("strategies.two",)))
    assert "last" in settled.provided("strategies")
    assert found(settled, "strategies.two").reason == "named in QP_BLOCK_PLUGINS"


def test_a_conflict_stays_one_until_it_is_settled(site):
    """It is not forgotten after the first time; what does not need the seam works on."""
    site.distribution("dist-one", caches__one="@hookimpl\ndef qp_caches(): return {'memory': dict}")
    plugins = Plugins(Settings())
    for _ in range(2):
        with pytest.raises(PluginConflictError, match="'memory'"):
            plugins.provided("caches")
    partitioner = QuantumPartitioner(plugins=plugins)
    partitioner.add_unit(lambda _: 1)
    assert partitioner.execute({}).ok


def test_two_distributions_may_use_one_entry_point_name(site):
    """Neither hides the other; they are told apart by distribution, also for blocking."""
    site.distribution("dist-one", strategies__same=STRATEGY)
    site.distribution("dist-two", strategies__same=STRATEGY.replace('"last"', '"other"'))
    plugins = Plugins(Settings())
    assert set(plugins.provided("strategies")) >= {"last", "other"}
    named = {info.name: info.distribution for info in plugins.listing() if info.name.startswith("strategies.same")}
    assert named == {"strategies.same": "dist-one", "strategies.same@dist-two": "dist-two"}
    for blocked, left in (("strategies.same@dist-one", {"other"}), ("strategies.same@dist-two", {"last"})):
        names = Plugins(Settings(blocked_plugins=(blocked,))).provided("strategies")
        assert set(names) & {"last", "other"} == left
    both = Plugins(Settings(blocked_plugins=("strategies.same",))).provided("strategies")
    assert not set(both) & {"last", "other"}


def test_a_conflict_between_plugins_of_one_entry_point_name_says_which_is_which(site):
    """The distributions tell them apart."""
    site.distribution("dist-one", strategies__same=STRATEGY)
    site.distribution("dist-two", strategies__same=STRATEGY)
    with pytest.raises(PluginConflictError, match=r"'strategies.same@dist-two' \(from dist-two\).*from dist-one"):
        Plugins(Settings()).provided("strategies")


def test_one_module_under_two_names_is_loaded_once(site):
    """A module that serves two seams has an entry point in each; its hooks are not asked twice."""
    name = site.module(STRATEGY)
    site.distribution("double", strategies__a=name, caches__b=name)
    plugins = Plugins(Settings())
    assert "last" in plugins.provided("strategies")
    assert plugins.provided("caches") == plugins.provided("caches")
    assert (found(plugins, "strategies.a").state, found(plugins, "caches.b").state) == ("loaded", "loaded")


def test_what_is_provided_is_listed_by_name(site):
    """Whatever the order of the plugins and of their answers."""
    site.distribution(
        "unordered",
        strategies__a="@hookimpl\ndef qp_strategies(): return {'z': dict, 'b': dict}",
        strategies__b="@hookimpl\ndef qp_strategies(): return {'y': dict, 'a': dict}",
    )
    names = list(Plugins(Settings()).provided("strategies"))
    assert names == sorted(names)
    assert {"a", "b", "y", "z"} < set(names)


# ---- settings


def test_named_plugins_are_blocked_through_the_environment(site, monkeypatch):
    """`QP_BLOCK_PLUGINS=a, b`; a blocked module is never imported."""
    one, two, three = site.distribution(
        "dist-one",
        strategies__one=STRATEGY,
        strategies__two="raise SystemExit",
        strategies__three=STRATEGY.replace('"last"', '"other"'),
    )
    monkeypatch.setenv("QP_BLOCK_PLUGINS", "strategies.one, strategies.two,,")
    plugins = Plugins()
    assert "last" not in plugins.provided("strategies")
    assert "other" in plugins.provided("strategies")
    assert one not in sys.modules
    assert two not in sys.modules
    assert three in sys.modules
    assert (found(plugins, "strategies.one").state, found(plugins, "strategies.one").reason) == (
        "blocked",
        "named in QP_BLOCK_PLUGINS",
    )


def test_without_autoload_only_the_built_ins_are_there(site, monkeypatch):
    """`QP_DISABLE_PLUGIN_AUTOLOAD=1`: a stranger's plugin is listed, blocked, and never imported."""
    (name,) = site.distribution("stranger", strategies__last=STRATEGY)
    monkeypatch.setenv("QP_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = Plugins()
    assert set(plugins.provided("strategies")) == {"fifo", "priority"}
    assert name not in sys.modules
    info = found(plugins, "strategies.last")
    assert (info.state, info.reason) == ("blocked", "QP_DISABLE_PLUGIN_AUTOLOAD is set")
    monkeypatch.setenv("QP_DISABLE_PLUGIN_AUTOLOAD", "0")
    assert "last" in Plugins().provided("strategies")


# ---- decide: the first answer counts, and nonsense ends the run


def partitioner_with(site, mode="sequential", caching=False, **entries):
    """A partitioner whose plugins are the installed ones and those of a distribution `policies`: a -> b."""
    site.distribution("policies", **entries)
    make = CachingQuantumPartitioner if caching else QuantumPartitioner
    partitioner = make(2, mode, plugins=Plugins(Settings()))
    partitioner.add_unit(lambda _: "kept", name="a")
    return partitioner


every_mode = pytest.mark.parametrize(
    "mode", ["sequential", "thread", "async", pytest.param("process", marks=pytest.mark.slow)]
)


def check_ended_by(partitioner, hook, plugin, problem, **options):
    """The run ends with PluginError naming the plugin and its distribution; what had finished is kept."""
    with pytest.raises(PluginError, match=problem) as caught:
        partitioner.execute({}, **options)
    assert (caught.value.plugin, caught.value.hook, caught.value.distribution) == (plugin, hook, "policies")
    assert plugin in str(caught.value)
    assert "policies" in str(caught.value)
    return caught.value


FALLBACKS = [
    pytest.param("raise LookupError('odd')", "raised LookupError: odd", id="raises"),
    pytest.param("return 3", "answered 3 for unit 'b'", id="nonsense"),
]


@every_mode
@pytest.mark.parametrize(("body", "problem"), FALLBACKS)
def test_a_fallback_plugin_that_breaks_ends_the_run_and_what_had_finished_is_kept(site, mode, body, problem):
    """A -> b: b fails, and its fallback plugin does not do what it may; a's result is there, b has none."""
    partitioner = partitioner_with(site, mode, fallbacks__odd=f"@hookimpl(tryfirst=True)\ndef qp_fallback(): {body}")
    partitioner.add_unit(lambda _: 1 / 0, ["a"], "b")
    partitioner.add_unit(lambda _: 1, ["b"], "c")
    error = check_ended_by(partitioner, "qp_fallback", "fallbacks.odd", problem)
    assert partitioner.get_partial_results() == {"a": "kept"}
    assert set(partitioner.last_result.report.in_state(*partitioner.last_result.report.counts)) == {"a", "b", "c"}
    if "raise" in body:
        assert isinstance(error.__cause__, LookupError)


CACHE_KEYS = [
    pytest.param("raise LookupError('odd')", "raised LookupError: odd", id="raises"),
    pytest.param("return 3", "answered 3 for unit 'b'", id="nonsense"),
]


@every_mode
@pytest.mark.parametrize(("body", "problem"), CACHE_KEYS)
def test_a_cache_key_plugin_that_breaks_ends_the_run_and_what_had_finished_is_kept(site, mode, body, problem):
    """A -> b, b cacheable."""
    partitioner = partitioner_with(site, mode, caching=True, caches__odd=f"@hookimpl\ndef qp_cache_key(): {body}")
    partitioner.add_unit(lambda _: 1, ["a"], "b", metadata={"cacheable": True})
    check_ended_by(partitioner, "qp_cache_key", "caches.odd", problem)
    assert partitioner.get_partial_results() == {"a": "kept"}


CHOICES = [
    pytest.param("raise LookupError('odd')", "raised LookupError: odd", id="raises"),
    pytest.param("return 'fast'", "no strategy named 'fast'; there are: 'fifo', 'priority'", id="unknown"),
    pytest.param("return 3", "no strategy named 3", id="number"),
    pytest.param("return ['fifo']", "no strategy named", id="unhashable"),
]


@pytest.mark.parametrize(("body", "problem"), CHOICES)
def test_a_plugin_that_chooses_nonsense_for_a_strategy_is_named_before_anything_runs(site, body, problem):
    """And a caller who names a strategy is not troubled by it."""
    partitioner = partitioner_with(site, strategies__odd=f"@hookimpl\ndef qp_choose_strategy(): {body}")
    check_ended_by(partitioner, "qp_choose_strategy", "strategies.odd", problem)
    assert partitioner.last_result is None
    assert partitioner.execute({}, strategy="fifo") == {"a": "kept"}


def test_the_first_answer_counts_and_none_is_no_answer(site):
    """First `tryfirst`, then the others, then `trylast` after them; with no answer at all the core's own."""
    site.distribution(
        "policies",
        strategies__none="@hookimpl(tryfirst=True)\ndef qp_choose_strategy(): return None",
        strategies__first="@hookimpl(tryfirst=True)\ndef qp_choose_strategy(plan): return 'priority' if len(plan) == 2 else None",
        strategies__late="@hookimpl(trylast=True)\ndef qp_choose_strategy(plan): return 'fifo' if len(plan) < 4 else None",
    )
    partitioner = QuantumPartitioner(default_execution_mode="sequential", plugins=Plugins(Settings()))
    chosen = []
    for _ in range(4):
        partitioner.add_unit(lambda _: 1)
        chosen.append(partitioner.execute({}).report.strategy)
    assert chosen == ["fifo", "priority", "fifo", "fifo"]


def test_a_cache_key_plugin_says_what_is_the_same(site):
    """Two units under one key: the second finds the first one's result. A unit without an answer has its own key."""
    partitioner = partitioner_with(
        site,
        caching=True,
        caches__same="@hookimpl\ndef qp_cache_key(unit, context):\n    return None if unit.id == 'own' else 'k' + str(context['n'])",
    )
    for name in ("b", "c", "own"):
        partitioner.add_unit(lambda ctx: ctx.unit_id, ["a"], name, metadata={"cacheable": True})
    assert partitioner.execute({"n": 1}) == {"a": "kept", "b": "b", "c": "b", "own": "own"}
    assert partitioner.execute({"n": 2}, outputs=["c"]) == {"c": "c"}
    assert (partitioner.cache_hits, partitioner.cache_misses) == (1, 3)


def test_a_fallback_plugin_may_answer_any_value_or_none(site):
    """`Substitute(None)` is an answer, None is not; the plugin sees the unit, the error, the attempts and the context."""
    partitioner = partitioner_with(
        site,
        fallbacks__odd="""
            @hookimpl
            def qp_fallback(unit, error, attempt, context):
                if unit.id == "nothing":
                    return Substitute(None)
                if unit.id == "told":
                    return Substitute((type(error).__name__, attempt, context["n"]))
        """,
    )
    for name in ("nothing", "told", "alone"):
        partitioner.add_unit(lambda _: 1 / 0, name=name)
    result = partitioner.execute({"n": 5})
    assert result == {"a": "kept", "nothing": None, "told": ("ZeroDivisionError", 1, 5)}
    assert list(result.failed) == ["alone"]


STRATEGIES = [
    pytest.param("raise LookupError('odd')", "raised LookupError: odd", id="raises"),
    pytest.param("return 3", "answered 3", id="number"),
    pytest.param("return ['a']", "lost: 'b'", id="too_few"),
    pytest.param("return ['a', 'b', 'b']", "named twice: 'b'", id="too_many"),
    pytest.param("return ['a', 'z']", "not in the plan: 'z'", id="unknown"),
    pytest.param("yield 1 / 0", "raised ZeroDivisionError", id="raises_late"),
]


@pytest.mark.parametrize(("body", "problem"), STRATEGIES)
def test_a_strategy_that_breaks_is_named_before_anything_runs(site, body, problem):
    """Whatever it raises or answers; `execute` never lets its own error out bare."""
    ran = []
    partitioner = partitioner_with(
        site,
        strategies__odd=f"""
class Odd:
    def order(self, plan):
        {body}
@hookimpl
def qp_strategies():
    return {{"odd": Odd}}
""",
    )
    partitioner.add_unit(ran.append, name="b")
    with pytest.raises(PluginError, match=problem) as caught:
        partitioner.execute({}, strategy="odd")
    assert (caught.value.plugin, caught.value.hook) == ("odd", "Strategy.order")
    assert ran == []


MADE = [
    pytest.param("executors", {"execution_mode": "odd"}, "has no method 'run'", id="executor"),
    pytest.param("strategies", {"strategy": "odd"}, "has no method 'order'", id="strategy"),
    pytest.param("caches", {"cache": "odd"}, "has no method 'get'", id="cache"),
    pytest.param("observers", {"telemetry": ["odd"]}, "will not do: observer 'odd' has no observe hook", id="observer"),
]


def odd_maker(site, seam, body):
    """A partitioner with one unit, which must not run, and a plugin that provides `odd`, made by a function of that body."""
    entry = "telemetry" if seam == "observers" else seam
    source = f"def odd(*_):\n    {body}\n@hookimpl\ndef qp_{seam}(): return {{'odd': odd}}"
    ran = []
    partitioner = partitioner_with(site, **{f"{entry}__odd": source})
    partitioner.units["a"].function = ran.append
    return partitioner, ran, f"{entry}.odd"


@pytest.mark.parametrize(("seam", "options", "_"), MADE)
@pytest.mark.parametrize("raised", [OSError("no file"), SystemExit(2)], ids=["error", "exit"])
def test_what_cannot_be_made_is_named_with_its_plugin_before_anything_runs(site, seam, options, _, raised):
    """Not raw, as if the caller had done something wrong; the cause is kept, and who names another one is not troubled."""
    partitioner, ran, plugin = odd_maker(site, seam, f"raise {raised!r}")
    text = rf"making 'odd' raised {type(raised).__name__}: {raised}$"
    error = check_ended_by(partitioner, f"qp_{seam}", plugin, text, **options)
    assert isinstance(error.__cause__, type(raised))
    assert (ran, partitioner.last_result) == ([], None)
    assert partitioner.execute({}).ok


@pytest.mark.parametrize(("seam", "options", "problem"), MADE)
@pytest.mark.parametrize("made", ["None", "5", "object()"])
def test_what_was_made_and_is_something_else_is_named_with_its_plugin(site, seam, options, problem, made):
    """Before anything runs."""
    partitioner, ran, plugin = odd_maker(site, seam, f"return {made}")
    check_ended_by(partitioner, f"qp_{seam}", plugin, f"making 'odd' gave .*, which {problem}", **options)
    assert (ran, partitioner.last_result) == ([], None)


@pytest.mark.parametrize(("seam", "options", "_"), MADE)
def test_a_maker_that_makes_a_class_is_named_with_its_plugin(site, seam, options, _):
    """Nobody has made an instance of it."""
    methods = "".join(f"    def {name}(self, *_): pass\n" for name in ("run", "order", "get", "put", "qp_run_started"))
    source = f"class Odd:\n{methods}@hookimpl\ndef qp_{seam}(): return {{'odd': lambda *_: Odd}}"
    entry = "telemetry" if seam == "observers" else seam
    partitioner = partitioner_with(site, **{f"{entry}__odd": source})
    text = r"making 'odd' gave <class '.*Odd'>, which will not do: .* is the class Odd; give an instance: Odd\(\)"
    check_ended_by(partitioner, f"qp_{seam}", f"{entry}.odd", text, **options)


@pytest.mark.parametrize(("seam", "options", "_"), MADE)
def test_a_maker_may_tell_the_user_what_is_missing(site, seam, options, _):
    """An optional library that is not installed is no fault of the plugin; its error says what to type."""
    partitioner, ran, _ = odd_maker(site, seam, "raise MissingExtraError('odd', 'odd')")
    with pytest.raises(
        MissingExtraError, match=r"odd needs an optional library; pip install 'quantum-partitioner\[odd\]'"
    ):
        partitioner.execute({}, **options)
    assert ran == []


def test_a_caching_partitioner_names_the_plugin_whose_cache_cannot_be_made(site):
    """When it is made."""
    site.distribution("policies", caches__odd="@hookimpl\ndef qp_caches(): return {'odd': lambda: 1 / 0}")
    with pytest.raises(
        PluginError, match=r"'caches.odd' \(from policies\), qp_caches: making 'odd' raised ZeroDivision"
    ):
        CachingQuantumPartitioner(plugins=Plugins(Settings()), cache="odd")


class Broken:
    """A cache that raises in one method.

    Args:
        method: Which.
    """

    def __init__(self, method):
        self._method = method

    def _fail(self, method):
        if method == self._method:
            raise OSError(method)

    def get(self, key):
        """Nothing is there."""
        from qp_core import MISS  # noqa: PLC0415 - only needed here

        self._fail("get")
        return MISS

    def put(self, key, value):
        """Keeps nothing."""
        self._fail("put")


@every_mode
@pytest.mark.parametrize("method", ["get", "put"])
def test_a_cache_that_raises_ends_the_run_and_what_had_finished_is_kept(mode, method):
    """It is named by its class."""
    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(lambda _: "kept", name="a")
    partitioner.add_unit(lambda _: 1, ["a"], "b", metadata={"cacheable": True})
    with pytest.raises(PluginError, match=rf"plugin 'Broken', Cache.{method}: raised OSError: {method} for unit 'b'"):
        partitioner.execute({}, cache=Broken(method))
    assert partitioner.get_partial_results() == {"a": "kept"}


def test_a_name_that_nobody_provides_is_an_error_that_lists_what_there_is():
    """Also where it is no name at all."""
    plugins = Plugins(Settings())
    with pytest.raises(UnknownNameError, match=r"no cache named 'memry'; there are: 'memory'; did you mean 'memory'\?"):
        plugins.make("caches", "memry")
    with pytest.raises(UnknownNameError, match="no strategy named"):
        plugins.maker("strategies", ["fifo"])
    assert plugins.maker("caches", "memory") is plugins.provided("caches")["memory"]
