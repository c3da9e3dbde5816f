"""The names of tasks, checked and taken apart without a model and without their data."""

from collections.abc import Collection

from cokv_bench.errors import RequestError, unknown
from cokv_bench.tasks.longbench.specs import PREFIX, plain_names
from cokv_bench.tasks.longbench.specs import expand as expand_longbench
from cokv_bench.tasks.longbench.specs import groups as longbench_groups
from cokv_bench.tasks.rows import own as jsonl
from cokv_bench.tasks.ruler import FROM_FILE, SUBTASKS
from cokv_bench.tasks.ruler import expand as expand_ruler
from cokv_bench.tasks.ruler.subtasks import PREFIX as RULER

#: Tasks that no group and no prefix has.
ALONE = ("needle", "text")


def expand(name: str, from_file: Collection[str] = ()) -> list[str]:
    """Full task names behind a name of the command line, which may be a group.

    Args:
        from_file: the subtasks of RULER whose files are given.

    Raises:
        RequestError: no such task, with the nearest names of all tasks.
    """
    if name in ALONE or name.startswith(jsonl.PREFIX):
        return [name]
    if name not in known():
        raise _unknown(name)
    if name.split("/")[0] == "ruler":
        return [RULER + subtask for subtask in expand_ruler(name, from_file)]
    return expand_longbench(name)


def known() -> list[str]:
    """All names but those of a user's own rows."""
    ruler = [RULER.rstrip("/"), *(RULER + name for name in (*SUBTASKS, *FROM_FILE))]
    return [*ALONE, *ruler, *longbench_groups(), *(PREFIX + name for name in plain_names())]


def check(names: Collection[str], from_file: Collection[str] = tuple(FROM_FILE)) -> None:
    """Refuse unknown tasks, before anything is loaded.

    Raises:
        RequestError: no such task, with the nearest names; where a comma has cut a path, how to write it.
    """
    own_rows = False
    for name in names:
        try:
            expand(name, from_file)
        except RequestError as error:
            if own_rows and name not in known():
                raise RequestError(
                    f"{str(error).rstrip('.')}. A comma ends a task: write a path that has one in double quotes, as in "
                    f"--tasks '\"jsonl:a, b.jsonl\"'."
                ) from None
            raise
        own_rows = own_rows or name.startswith(jsonl.PREFIX)


def _unknown(name: str) -> RequestError:
    near = unknown("task", name, known())
    # Of thirty names none is a help.
    return (
        near
        if "did you mean" in str(near)
        else unknown("task", name, [*ALONE, "ruler", *longbench_groups(), "jsonl:PATH"])
    )
