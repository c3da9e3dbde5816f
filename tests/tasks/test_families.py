"""Families of tasks as `--leave-out` names them."""

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.tasks.families import LeaveOut, TaskFamily, check_among, check_some


@pytest.mark.parametrize(
    ("text", "name", "tasks", "folder"),
    [
        ("needle", "needle", ("needle",), "without-needle"),
        (
            "code=longbench/lcc+longbench/repobench-p",
            "code",
            ("longbench/lcc", "longbench/repobench-p"),
            "without-code",
        ),
        ("ruler/vt+needle", "ruler/vt+needle", ("ruler/vt", "needle"), "without-ruler,vt,needle"),
        ("=needle", "needle", ("needle",), "without-needle"),
    ],
)
def test_a_family_is_read(text: str, name: str, tasks: tuple[str, ...], folder: str) -> None:
    family = TaskFamily.read(text)
    assert family == TaskFamily(name, tasks)
    assert family.folder == folder


def test_a_family_has_tasks_and_those_of_its_benchmarks() -> None:
    family = TaskFamily.read("some=ruler+longbench/lcc")
    assert all(map(family.has, ("ruler", "ruler/vt", "longbench/lcc")))
    assert not any(map(family.has, ("rulers/vt", "longbench", "longbench/lcc_e", "needle")))


def test_families_need_folders_of_their_own_and_known_tasks() -> None:
    assert [family.name for family in LeaveOut(("needle", "a=ruler")).families] == ["needle", "a"]
    with pytest.raises(RequestError, match=r"Two families to leave out are called 'a'; .* as in other=ruler"):
        _ = LeaveOut(("a=needle", "a=ruler")).families
    check_among(["ruler", "needle"], ["ruler/vt", "needle"], "this search", "leave out")
    with pytest.raises(RequestError, match="No task of this search is 'ruler/cwe', which it is to leave out"):
        check_among(["ruler", "ruler/cwe"], ["ruler/vt"], "this search", "leave out")
    # A family of which some has no example at hand is still one.
    check_some(["ruler/cwe", "ruler/vt"], ["ruler/vt"], "this search", "leave out")
    with pytest.raises(RequestError, match="No task of this search is 'needle', which it is to leave out"):
        check_some(["needle", "ruler/cwe"], ["ruler/vt"], "this search", "leave out")


@pytest.mark.parametrize(
    ("name", "words"),
    [("rulre", "Unknown task 'rulre'; did you mean ruler"), ("longbench/repobench_p", "did you mean"), ("", "task ''")],
)
def test_a_slip_in_a_family_leaves_no_task_in(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        check_some(["ruler/vt", name], ["ruler/vt"], "this search", "leave out")


def test_a_family_has_a_name_that_a_folder_can_have() -> None:
    tasks = "+".join(f"ruler/niah_single_{number}" for number in range(1, 14))
    with pytest.raises(RequestError, match="too long a name for its folder; give it a shorter one") as refused:
        _ = LeaveOut((tasks,)).families
    assert len(str(refused.value)) <= 400
    assert [family.folder for family in LeaveOut((f"some={tasks}",)).families] == ["without-some"]
