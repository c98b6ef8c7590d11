"""Which ready unit goes first, and how many workers a plan deserves."""

import os
import subprocess
import sys

import pytest

from qp_core import strategy
from qp_core.errors import PluginError
from qp_core.partitioner import QuantumPartitioner
from qp_core.strategy import (
    _quota_cores,
    available_cores,
    checked_order,
    select_execution_strategy,
    select_optimal_workers,
)
from qp_core.vocabulary import ExecutionMode


def partitioner_of(*kinds, chained=False):
    """Units that say these resource types (None says nothing), side by side or one after the other."""
    partitioner = QuantumPartitioner()
    for number, kind in enumerate(kinds):
        needs = [f"u{number - 1}"] if chained and number else []
        partitioner.add_unit(str, needs, f"u{number}", metadata=None if kind is None else {"resource_type": kind})
    return partitioner


# ---- a strategy's answer is checked


@pytest.fixture
def plan():
    """Of u0, u1 and u2."""
    return partitioner_of(None, None, None).build_execution_plan()


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        (None, None),
        (["u2", "u0", "u1"], [2, 0, 1]),
        (("u0", "u1", "u2"), [0, 1, 2]),
        ((name for name in ["u1", "u2", "u0"]), [1, 2, 0]),
        ({"u2": 1, "u1": 2, "u0": 3}, [2, 1, 0]),
    ],
    ids=["order of arrival", "list", "tuple", "generator", "dict"],
)
def test_an_order_becomes_numbers(plan, answer, numbers):
    """Most urgent first."""
    assert checked_order("mine", answer, plan) == numbers


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (["u0", "u1"], "must name each unit once; named twice: none; lost: 'u2'"),
        (["u0", "u1", "u1"], "must name each unit once; named twice: 'u1'; lost: 'u2'"),
        (["u0", "u1", "u2", "u0"], "must name each unit once; named twice: 'u0'; lost: none"),
        ([], "must name each unit once; named twice: none; lost: 'u0', 'u1', 'u2'"),
        (["u0", "u9", 5], "named units that are not in the plan: 'u9', 5"),
        (5, "answered 5; it must answer ids of the plan, or None"),
        ([["u0"]], "answered [['u0']]; it must answer ids of the plan, or None"),
        ("u0", "named units that are not in the plan: 'u', '0'"),
    ],
    ids=["one lost", "one twice", "one too many", "none", "unknown", "number", "lists", "string"],
)
def test_an_order_that_is_none_names_the_strategy_and_the_units(plan, answer, problem):
    """Rather than to lose a unit, or to run one twice."""
    with pytest.raises(PluginError) as raised:
        checked_order("mine", answer, plan)
    assert str(raised.value) == f"plugin 'mine', Strategy.order: {problem}"


class Hashed(str):
    """Counts how often ids are looked up."""

    __slots__ = ()
    times = 0

    def __hash__(self):
        Hashed.times += 1
        return super().__hash__()

    __eq__ = str.__eq__


def test_a_wrong_order_is_judged_in_linear_time():
    """Ten times the units, ten times the look-ups: counted, not timed."""
    counts = []
    for n in (100, 1_000):
        plan = partitioner_of(*[None] * n).build_execution_plan()
        Hashed.times = 0
        with pytest.raises(PluginError, match=f"lost: 'u{n // 2}', .* and {n // 2 - 8} more"):
            checked_order("mine", [Hashed(f"u{number}") for number in range(n // 2)], plan)
        counts.append(Hashed.times)
    assert 0 < counts[1] <= 11 * counts[0]


# ---- how many workers


def test_most_units_on_the_processor_get_a_worker_a_core(monkeypatch):
    """Others two a core; never more than the widest level has units, and always one."""
    monkeypatch.setattr(strategy, "available_cores", lambda: 4)

    def workers(*kinds, chained=False):
        partitioner = partitioner_of(*kinds, chained=chained)
        return select_optimal_workers(partitioner.units, partitioner.build_execution_plan())

    assert workers(*["cpu"] * 20) == 4
    assert workers(*["io"] * 20) == 8
    assert workers(*[None] * 20) == 8, "what says nothing will mostly wait, as in the seed"
    assert workers(*["cpu"] * 11, *["io"] * 9) == 4
    assert workers(*["cpu"] * 10, *["io"] * 10) == 8, "not more than half"
    assert workers(*["cpu"] * 3) == 3
    assert workers(*["io"] * 5) == 5
    assert workers(*["io"] * 20, chained=True) == 1
    assert workers() == 1


def test_a_run_without_a_bound_gets_what_suits_it(monkeypatch):
    """The number reaches the report."""
    monkeypatch.setattr(strategy, "available_cores", lambda: 3)
    assert partitioner_of(*["cpu"] * 20).execute({}, "thread").report.max_workers == 3
    assert partitioner_of(*["io"] * 20).execute({}, "thread").report.max_workers == 6
    assert partitioner_of(*["io"] * 2).execute({}, "thread").report.max_workers == 2


@pytest.mark.parametrize(
    ("kinds", "mode"),
    [
        ((), ExecutionMode.PROCESS),
        (("cpu",), ExecutionMode.PROCESS),
        ((None,), ExecutionMode.PROCESS),
        (("io",), ExecutionMode.THREAD),
        (("async",), ExecutionMode.ASYNC),
        (("io", "cpu"), ExecutionMode.PROCESS),
        (("io", "io", "cpu"), ExecutionMode.THREAD),
        (("io", "io", None), ExecutionMode.THREAD),
        (("async", "io"), ExecutionMode.THREAD),
        (("async", "io", "io"), ExecutionMode.THREAD),
        (("async", "async", "io"), ExecutionMode.ASYNC),
        (("async", "async", "async", "io", "cpu"), ExecutionMode.ASYNC),
        (("async", "async", "io", "cpu"), ExecutionMode.PROCESS),
        (("gpu", "gpu", "io"), ExecutionMode.THREAD),
        (("gpu", "async"), ExecutionMode.ASYNC),
        (("async", None), ExecutionMode.PROCESS),
    ],
    ids=lambda value: "-".join(map(str, value)) or "none" if isinstance(value, tuple) else value.value,
)
def test_the_mode_that_suits_the_units(kinds, mode):
    """By the seed's rules; kinds that it does not know do not count."""
    assert select_execution_strategy(partitioner_of(*kinds).units) is mode


# ---- how many cores


def test_there_is_always_a_core():
    """And no more than the machine has."""
    assert 1 <= available_cores() <= os.cpu_count()


@pytest.fixture
def machine(monkeypatch):
    """Sets what the operating system says."""

    def says(*, cpu_count=8, affinity=None, process_cpu_count=None, quota=None):
        monkeypatch.setattr(os, "cpu_count", lambda: cpu_count)
        monkeypatch.delattr(os, "process_cpu_count", raising=False)
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        if process_cpu_count is not None:
            monkeypatch.setattr(os, "process_cpu_count", lambda: process_cpu_count, raising=False)
        if affinity is not None:
            monkeypatch.setattr(os, "sched_getaffinity", lambda pid: affinity, raising=False)
        monkeypatch.setattr(strategy, "_quota_cores", lambda mount, membership: quota)

    return says


@pytest.mark.parametrize(
    ("says", "cores"),
    [
        ({"cpu_count": 8}, 8),
        ({"cpu_count": None}, 1),
        ({"cpu_count": 8, "affinity": {0, 5}}, 2),
        ({"cpu_count": 8, "affinity": {0, 5}, "process_cpu_count": 3}, 3),
        ({"cpu_count": 8, "quota": 2}, 2),
        ({"cpu_count": 8, "affinity": {0, 5, 6, 7}, "quota": 3}, 3),
        ({"cpu_count": 8, "affinity": {5}, "quota": 3}, 1),
        ({"cpu_count": 2, "quota": 16}, 2),
        ({"cpu_count": None, "quota": 4}, 1),
    ],
    ids=[
        "machine",
        "unknown",
        "affinity",
        "Python 3.13",
        "quota",
        "quota below affinity",
        "affinity below quota",
        "quota above the machine",
        "quota of an unknown machine",
    ],
)
def test_the_least_of_what_may_be_used_counts(machine, says, cores):
    """Affinity, quota, and what Python is told."""
    machine(**says)
    assert available_cores() == cores


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_a_process_on_one_core_counts_one():
    """Really, in a process of its own."""
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from qp_core import available_cores; print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


def test_quotas_are_looked_for_where_linux_has_them(monkeypatch):
    """The mount of the control groups, and this process's own membership."""
    asked = []
    monkeypatch.setattr(strategy, "_quota_cores", lambda *places: asked.append([str(place) for place in places]))
    assert available_cores() >= 1
    assert [[place.replace("\\", "/") for place in places] for places in asked] == [
        ["/sys/fs/cgroup", "/proc/self/cgroup"]
    ]


# ---- quotas of control groups, in trees of our own


@pytest.fixture
def groups(tmp_path):
    """Makes a tree of control groups, and says what quota it means."""

    def quota(membership, **files):
        mount = tmp_path / "cgroup"
        mount.mkdir()
        for path, content in files.items():
            file = mount / path.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        if membership is not None:
            (tmp_path / "self").write_bytes(membership.encode("utf-8", "surrogateescape"))
        return _quota_cores(mount, tmp_path / "self")

    return quota


def v2(*places, **quotas):
    """Files of version 2, by the place of the group: `a__b` is /a/b."""
    return {f"{place}__cpu_dot_max".removeprefix("root__"): content for place, content in quotas.items()}


def v1(place, quota, period="100000"):
    """Files of version 1."""
    return {f"cpu__{place}cpu_dot_cfs_quota_us": quota, f"cpu__{place}cpu_dot_cfs_period_us": period}


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000\n", None),
        ("100000 100000\n", 1),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1000 100000\n", 1),
        ("1600000 100000\n", 16),
        ("400000 200000\n", 2),
        ("", None),
        ("nonsense\n", None),
        ("many 100000\n", None),
        ("100000 0\n", None),
        ("100000\n", None),
    ],
    ids=[
        "none",
        "one",
        "two",
        "one and a half",
        "half",
        "a hundredth",
        "sixteen",
        "other period",
        "empty",
        "one word",
        "no number",
        "no period",
        "half a line",
    ],
)
def test_a_quota_of_version_2_is_rounded_up(groups, content, cores):
    """What cannot be understood is no quota."""
    assert groups("0::/\n", cpu_dot_max=content) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [
        ("-1", "100000", None),
        ("200000\n", "100000\n", 2),
        ("150000", "100000", 2),
        ("x", "100000", None),
        ("5", "0", None),
    ],
    ids=["none", "two", "one and a half", "no number", "no period"],
)
def test_a_quota_of_version_1_is_rounded_up(groups, quota, period, cores):
    """In two files; -1 is no quota."""
    assert groups("4:cpu,cpuacct:/\n", **v1("", quota, period)) == cores


def test_the_quota_of_the_own_group_counts(groups):
    """Not that of a sibling."""
    files = v2(a="800000 100000", a__b="300000 100000", a__c="100000 100000")
    assert groups("0::/a/b\n", **files) == 3


def test_the_quotas_of_the_groups_around_count_too(groups):
    """The least of all on the way up."""
    assert groups("0::/a/b/c\n", **v2(root="900000 100000", a="200000 100000", a__b="max 100000")) == 2


def test_the_quota_of_the_mount_counts_where_the_own_group_cannot_be_seen(groups):
    """In a container, the path of the group is often the host's."""
    assert groups("0::/docker/0123\n", cpu_dot_max="300000 100000") == 3


def test_version_1_is_nested_too(groups):
    """Under the folder of the cpu controller."""
    files = {**v1("", "-1"), **v1("a__", "500000"), **v1("a__b__", "200000")}
    assert groups("12:memory:/elsewhere\n4:cpu,cpuacct:/a/b\n", **files) == 2


@pytest.mark.parametrize("membership", [None, "12:memory:/a\n"], ids=["no file", "other controllers"])
def test_the_quota_of_the_mount_counts_in_version_1_too(groups, membership):
    """Where nothing is said of the own group."""
    assert groups(membership, **v1("", "200000")) == 2


def test_what_stands_above_the_mount_does_not_count(groups, tmp_path):
    """It is no control group."""
    (tmp_path / "cpu.max").write_text("100000 100000")
    assert groups("0::/a\n", **v2(root="300000 100000", a="400000 100000")) == 3


def test_the_name_of_a_group_may_have_colons(groups):
    """Only the first two of a line part it."""
    assert groups("0::/a:b/c\n", **{"a:b__c__cpu_dot_max": "200000 100000"}) == 2


def test_groups_of_other_controllers_do_not_count(groups):
    """A path under `memory` says nothing about the processor."""
    assert groups("12:memory:/a\n3:cpuset:/a\n", **v1("a__", "100000")) is None


def test_both_versions_may_be_there(groups):
    """The stricter of the two."""
    assert groups("4:cpu:/a\n0::/b\n", **v1("a__", "300000"), **v2(b="200000 100000")) == 2


@pytest.mark.parametrize(
    "membership",
    [None, "", "\n", "0:\n", "nonsense\n", "0::/../../..\n", "0::/caf\udce9\n", "0::" + "/a" * 200 + "\n"],
    ids=["no file", "empty", "empty line", "half a line", "nonsense", "above the mount", "no UTF-8", "very deep"],
)
def test_whatever_stands_in_the_membership_is_survived(groups, membership):
    """The quota of the mount counts then."""
    assert groups(membership, cpu_dot_max="200000 100000") == 2


def test_a_group_whose_name_is_no_utf8_is_found(tmp_path):
    """A name is bytes."""
    name = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / name).mkdir()
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    (tmp_path / name / "cpu.max").write_text("200000 100000")
    (tmp_path / "self").write_bytes(b"0::/caf\xe9\n")
    assert _quota_cores(tmp_path, tmp_path / "self") == 2


def test_without_control_groups_there_is_no_quota(tmp_path):
    """Neither mount nor membership."""
    assert _quota_cores(tmp_path / "nowhere", tmp_path / "nothing") is None


def test_what_cannot_be_read_is_no_quota(tmp_path):
    """A folder in the place of the file; what stands around it counts all the same."""
    (tmp_path / "a" / "cpu.max").mkdir(parents=True)
    (tmp_path / "self").write_text("0::/a\n")
    assert _quota_cores(tmp_path, tmp_path / "self") is None
    (tmp_path / "cpu.max").write_text("300000 100000")
    assert _quota_cores(tmp_path, tmp_path / "self") == 3


def test_a_folder_that_may_not_be_entered_is_no_quota(tmp_path):
    """Where this process is not root, who may enter everything."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cpu.max").write_text("100000 100000")
    (tmp_path / "self").write_text("0::/a\n")
    (tmp_path / "cpu.max").write_text("300000 100000")
    (tmp_path / "a").chmod(0)
    try:
        assert _quota_cores(tmp_path, tmp_path / "self") == (1 if os.access(tmp_path / "a", os.X_OK) else 3)
    finally:
        (tmp_path / "a").chmod(0o700)
