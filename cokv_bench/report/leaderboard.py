"""What a leaderboard shows: submissions by name, and what can be compared of them."""

from collections.abc import Sequence
from pathlib import Path

from cokv_bench.errors import RequestError
from cokv_bench.report.folders import short_names
from cokv_bench.runs.submission import read_finished
from cokv_bench.scores.submissions import Submission


def read_submissions(folders: Sequence[Path]) -> list[Submission]:
    """Read submissions, and runs under the last parts of their paths.

    Raises:
        RequestError: a folder is damaged or not finished, or two submissions have one name.
    """
    found: list[Submission] = []
    for short, folder in zip(short_names(folders), folders, strict=True):
        run = read_finished(folder)
        name = run.name or short
        if name in {each.name for each in found}:
            raise RequestError(
                f"{folder} and another folder are both called '{name}'; pack one of them again with another --name."
            )
        found.append(Submission(name, run.description, run.records))
    return found
