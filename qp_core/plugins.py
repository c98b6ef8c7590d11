"""Which plugins there are: found through entry points, loaded when their seam is needed, left out when broken.

An entry point of the group `quantum_partitioner` is named `<seam>.<name>` (`executors.thread`, `telemetry.metrics`); it is
imported when that seam is first needed. One whose name says no seam is imported with whichever comes first. The built-ins are found in
just this way: nothing here knows them by name. Where two distributions have an entry point of the same name, the later one's plugin is
called `<name>@<distribution>`.
"""

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from qp_core import hookspecs
from qp_core.cache import cache_key
from qp_core.errors import (
    PluginConflictError,
    PluginError,
    QuantumPartitionerError,
    UnknownNameError,
    refuse_class,
    shown,
    told,
)
from qp_core.fallback import Substitute
from qp_core.plan import ExecutionPlan
from qp_core.settings import Settings
from qp_core.telemetry import HOOK_OF, Event, Listener, Listeners, listeners_of
from qp_core.unit import QuantumUnit

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_log = logging.getLogger("qp_core")

OWN_DISTRIBUTION = "quantum-partitioner"

SEAMS: Mapping[str, str] = {
    "executors": "executor",
    "strategies": "strategy",
    "caches": "cache",
    "observers": "telemetry",
    "commands": "command",
}
"""The provide hooks (`qp_<name>`), and how an error message calls one of what they provide."""

_METHODS = {"executors": ("run",), "strategies": ("order",), "caches": ("get", "put")}
"""What a thing that a seam provides must be able to do; what an observer must, `listeners_of` knows."""

_ENTRY_SEAM = {"observers": "telemetry"}  # where the entry points of a seam are named otherwise than its provide hook


@attrs.frozen(kw_only=True)
class PluginInfo:
    """What is known of one plugin.

    Attributes:
        name: Its entry point; with `@<distribution>` where another one's has the same name.
        distribution: The distribution that brings it, if it is installed from one.
        version: That distribution's version.
        source: The module it is loaded from.
        state: `found` (not yet needed), `loaded`, `blocked` (by a setting) or `broken`.
        reason: Why it is blocked or broken.
    """

    name: str
    distribution: str | None
    version: str | None
    source: str
    state: str
    reason: str | None = None


class Plugins:
    """The plugins of a process.

    Args:
        settings: What is blocked.
        entry_points: Where plugins are found; those that are installed, if None.
    """

    def __init__(self, settings: Settings | None = None, entry_points: "Iterable[EntryPoint] | None" = None) -> None:
        self._settings = settings or Settings.from_environment()
        found = _installed_entry_points() if entry_points is None else entry_points
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._lock = threading.RLock()
        self._info: dict[str, PluginInfo] = {}
        self._waiting: dict[str, list[tuple[str, EntryPoint]]] = {}
        self._provided: dict[str, dict[str, Any]] = {}
        self._origin: dict[tuple[str, str], str] = {}  # seam and name -> plugin
        # Sorted, so that the order of answers does not depend on the order of installation.
        for entry in sorted(dict.fromkeys(found), key=lambda entry: (entry.name, _name_of(entry) or "", entry.value)):
            self._admit(entry)

    @classmethod
    def installed(cls) -> "Plugins":
        """The plugins that are installed here; looked up once a process.

        Returns:
            Always the same object.
        """
        with _installed_lock:
            return _installed()

    def _admit(self, entry: "EntryPoint") -> None:
        distribution = _name_of(entry)
        longer = f"{entry.name}@{distribution}"
        name = longer if entry.name in self._info else entry.name
        info = PluginInfo(
            name=name,
            distribution=distribution,
            version=entry.dist.version if entry.dist else None,
            source=entry.value,
            state="found",
        )
        if not {entry.name, longer}.isdisjoint(self._settings.blocked_plugins):
            info = attrs.evolve(info, state="blocked", reason="named in QP_BLOCK_PLUGINS")
        elif not self._settings.autoload and distribution != OWN_DISTRIBUTION:
            info = attrs.evolve(info, state="blocked", reason="QP_DISABLE_PLUGIN_AUTOLOAD is set")
        else:
            self._waiting.setdefault(entry.name.partition(".")[0], []).append((name, entry))
        self._info[name] = info

    def listing(self) -> tuple[PluginInfo, ...]:
        """Every plugin that was found. Imports none.

        Returns:
            One record a plugin, by name.
        """
        with self._lock:
            return tuple(self._info[name] for name in sorted(self._info))

    def _load(self, seam: str) -> None:
        with self._lock:
            known = {_ENTRY_SEAM.get(name, name) for name in SEAMS} | {"fallbacks"}
            for wanted in [name for name in self._waiting if name == seam or name not in known]:
                waiting = self._waiting[wanted]
                while waiting:
                    name, entry = waiting.pop(0)
                    try:
                        self._load_one(name, entry)
                    except BaseException:
                        waiting.insert(0, (name, entry))  # Ctrl-C in the middle of an import must not lose the plugin
                        raise
                self._waiting.pop(wanted, None)

    def _load_one(self, name: str, entry: "EntryPoint") -> None:
        try:
            plugin = entry.load()
            if self._manager.is_registered(plugin):  # one module under two entry points, since it serves two seams
                self._info[name] = attrs.evolve(self._info[name], state="loaded")
                return
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
            self._refuse_wrappers(plugin)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may fail in any way while it is imported, and must not stop the others
            self._leave_out(name, told(error))
        else:
            self._info[name] = attrs.evolve(self._info[name], state="loaded")

    def _refuse_wrappers(self, plugin: object) -> None:
        # Hooks are asked one by one here and not through pluggy, which alone could make a wrapper of one.
        for caller in self._manager.get_hookcallers(plugin) or ():
            for impl in caller.get_hookimpls():
                if impl.plugin is plugin and (impl.wrapper or impl.hookwrapper):
                    msg = f"wraps {caller.name}; hooks can be implemented, not wrapped"
                    raise TypeError(msg)

    def _leave_out(self, name: str, reason: str) -> None:
        if self._manager.has_plugin(name):
            self._manager.unregister(name=name)
        self._info[name] = info = attrs.evolve(self._info[name], state="broken", reason=reason)
        _log.warning("plugin %r of %s (%s) is broken and left out: %s", name, info.distribution, info.source, reason)

    # ---- provide

    def provided(self, seam: str) -> Mapping[str, Any]:
        """What the plugins of a seam provide, by name.

        Args:
            seam: A key of `SEAMS`.

        Returns:
            Names, each with what makes the thing (of commands, the thing itself).

        Raises:
            PluginConflictError: Two plugins provide the same name.
        """
        with self._lock:
            if seam not in self._provided:
                self._load(_ENTRY_SEAM.get(seam, seam))
                self._provided[seam] = self._gathered(seam)
            return self._provided[seam]

    def _gathered(self, seam: str) -> dict[str, Any]:
        hook = f"qp_{seam}"
        found: dict[str, Any] = {}
        for impl in getattr(self._manager.hook, hook).get_hookimpls():
            for name, maker in self._offered(impl, hook).items():
                if name in found:
                    other = self._origin[seam, name]
                    problem = f"provides {name!r}, which {other!r} (from {self._distribution(other)}) provides too; block one of them"
                    raise PluginConflictError(impl.plugin_name, hook, problem, self._distribution(impl.plugin_name))
                found[name], self._origin[seam, name] = maker, impl.plugin_name
        return dict(sorted(found.items()))

    def _offered(self, impl: pluggy.HookImpl, hook: str) -> Mapping[str, Any]:
        """What a plugin provides; nothing where it cannot say: it must not stop the others any more than a broken import."""
        try:
            answer: object = impl.function()
            if not isinstance(answer, Mapping):
                problem = f"{hook} answered {answer!r}; it must answer a mapping of names"
            elif wrong := [name for name in answer if not isinstance(name, str) or not name]:
                problem = f"{hook} answered the name {wrong[0]!r}; names are non-empty strings"
            elif hook != "qp_commands" and (wrong := [name for name, maker in answer.items() if not callable(maker)]):
                problem = (
                    f"{hook} answered {answer[wrong[0]]!r} for {wrong[0]!r}, which makes nothing: it cannot be called"
                )
            else:
                return answer
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above: whatever it raises
            problem = f"{hook} raised {told(error)}"
        self._leave_out(impl.plugin_name, problem)
        return {}

    def make(self, seam: str, name: str, *arguments: Any, **options: Any) -> Any:
        """Make one of what a seam provides.

        Args:
            seam: A key of `SEAMS`.
            name: Which.
            *arguments: For what makes it.
            **options: For what makes it.

        Returns:
            A new object.

        Raises:
            UnknownNameError: Nobody provides that name; the message lists what there is.
            PluginError: What makes it raised, or made something else.
            QuantumPartitionerError: What makes it raised this on purpose, such as the `MissingExtraError` of an absent library.
        """
        maker = self.maker(seam, name)
        try:
            made = maker(*arguments, **options)
            problem = _unfit(seam, name, made)
        except QuantumPartitionerError:  # in words for the user: an optional library is absent, a setting is wrong
            raise
        except (Exception, SystemExit) as error:
            raise self._blamed(seam, name, f"making {name!r} raised {told(error)}") from error
        if problem:
            raise self._blamed(seam, name, f"making {name!r} gave {shown(made)}, which {problem}")
        return made

    def _blamed(self, seam: str, name: str, problem: str) -> PluginError:
        with self._lock:
            plugin = self._origin[seam, name]
        return PluginError(plugin, f"qp_{seam}", problem, self._distribution(plugin))

    def maker(self, seam: str, name: str) -> Any:
        """What makes one of what a seam provides; also for checking a name early.

        Returns:
            The factory.

        Raises:
            UnknownNameError: Nobody provides that name; the message lists what there is.
        """
        there = self.provided(seam)
        wanted: object = name  # whatever the annotation says; a list could not even be looked up
        if not isinstance(wanted, str) or name not in there:
            unknown = UnknownNameError(SEAMS[seam], name, tuple(there))
            for info in self.listing():
                if info.state == "broken" and info.name.partition(".")[2] == name:
                    unknown.add_note(f"plugin {info.name!r} of {info.distribution} is broken: {info.reason}")
            raise unknown
        return there[name]

    def _distribution(self, plugin: str) -> str | None:
        info = self._info.get(plugin)
        return None if info is None else info.distribution

    # ---- decide

    def _answer(self, impl: pluggy.HookImpl, hook: str, arguments: Mapping[str, Any]) -> Any:
        try:
            return impl.function(*[arguments[name] for name in impl.argnames])
        except Exception as error:
            problem = f"raised {told(error)}"
            raise PluginError(impl.plugin_name, hook, problem, self._distribution(impl.plugin_name)) from error

    def _decided(self, seam: str, hook: str, **arguments: Any) -> tuple[str, Any] | None:
        # Not through pluggy's call: that says what was raised, but not by whom.
        self._load(seam)
        for impl in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            answer = self._answer(impl, hook, arguments)
            if answer is not None:
                return impl.plugin_name, answer
        return None

    def choose_strategy(self, plan: ExecutionPlan) -> str | None:
        """Ask the plugins for a strategy.

        Returns:
            A strategy's name, or None.

        Raises:
            PluginError: A plugin named a strategy that is not there.
        """
        answer = self._decided("strategies", "qp_choose_strategy", plan=plan)
        if answer is None:
            return None
        if not isinstance(answer[1], str) or answer[1] not in self.provided("strategies"):
            problem = str(UnknownNameError("strategy", answer[1], tuple(self.provided("strategies"))))
            raise PluginError(answer[0], "qp_choose_strategy", problem, self._distribution(answer[0]))
        return answer[1]

    def cache_key(self, unit: QuantumUnit[Any, Any], context: Mapping[str, Any]) -> str | None:
        """Ask the plugins for a cache key; `cache.cache_key` where none answers.

        Returns:
            The key.

        Raises:
            PluginError: A plugin answered something that is no string.
        """
        answer = self._decided("caches", "qp_cache_key", unit=unit, context=context)
        if answer is None:
            return cache_key(unit, context)
        if not isinstance(answer[1], str):
            problem = f"answered {answer[1]!r} for unit {unit.id!r}; a key is a string"
            raise PluginError(answer[0], "qp_cache_key", problem, self._distribution(answer[0]))
        return answer[1]

    def fallback(
        self, unit: QuantumUnit[Any, Any], error: BaseException, attempt: int, context: Any
    ) -> Substitute | None:
        """Ask the plugins for what stands in for a failed unit.

        Returns:
            The first substitute, or None.

        Raises:
            PluginError: A plugin answered something else.
        """
        answer = self._decided("fallbacks", "qp_fallback", unit=unit, error=error, attempt=attempt, context=context)
        if answer is None:
            return None
        if not isinstance(answer[1], Substitute):
            problem = f"answered {answer[1]!r} for unit {unit.id!r}; answer Substitute(value), or None"
            raise PluginError(answer[0], "qp_fallback", problem, self._distribution(answer[0]))
        return answer[1]

    # ---- observe

    def listeners(self, observers: Iterable[tuple[str, object]]) -> Listeners:
        """Who listens to a run: the plugins that implement observe hooks, and the run's own observers.

        Args:
            observers: Names and objects that were asked for.

        Returns:
            The listeners, looked up once.
        """
        self._load("telemetry")
        found: dict[type[Event], list[Listener]] = {kind: [] for kind in HOOK_OF}
        for kind, hook in HOOK_OF.items():
            for impl in getattr(self._manager.hook, hook).get_hookimpls():
                found[kind].append((impl.plugin_name, impl.function if impl.argnames else _deaf(impl.function)))
        for name, observer in _told_apart(observers, [name for name, _ in self._manager.list_name_plugin()]):
            for kind, listener in listeners_of(name, observer).items():
                found[kind].append(listener)
        return Listeners({kind: tuple(listeners) for kind, listeners in found.items()})


def _unfit(seam: str, name: str, made: object) -> str:
    """What is wrong with what a plugin made; empty where nothing is."""
    methods = _METHODS.get(seam, ())
    lacking = [method for method in methods if not callable(getattr(made, method, None))]
    if lacking:
        return f"has no method {lacking[0]!r}"
    try:
        refuse_class(made, "it", methods)
        if seam == "observers":
            listeners_of(name, made)
    except TypeError as error:
        return f"will not do: {error}"
    return ""


def _deaf(function: Callable[[], object]) -> Callable[[Any], object]:
    """Call a hook implementation that takes no event."""
    return lambda _: function()


def _installed_entry_points() -> "Iterable[EntryPoint]":
    # Here and not above: it takes longer to import than most of the core, and is needed with the first run.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return entry_points(group=hookspecs.PROJECT)


def _name_of(entry: "EntryPoint") -> str | None:
    return entry.dist.name if entry.dist else None


def _told_apart(observers: Iterable[tuple[str, object]], taken: Iterable[str]) -> Iterator[tuple[str, object]]:
    """Observers under names of their own, so that one which raises is switched off without its namesakes."""
    names = set(taken)
    for name, observer in observers:
        unique, count = name, 1
        while unique in names:
            count += 1
            unique = f"{name} ({count})"
        names.add(unique)
        yield unique, observer


_installed_lock = threading.Lock()


@functools.cache
def _installed() -> Plugins:
    return Plugins()
