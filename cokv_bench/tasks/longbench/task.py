"""One LongBench task, as the `Task` that runs and profiles use."""

import os

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import PROFILE_SHARE
from cokv_bench.tasks.longbench.data import load_rows
from cokv_bench.tasks.longbench.specs import PREFIX, spec_of
from cokv_bench.tasks.rows.rows import Row
from cokv_bench.tasks.rows.task import RowTask


class LongBenchTask(RowTask):
    """A LongBench or LongBench-E task.

    Args:
        name: "hotpotqa" or "hotpotqa_e", with or without "longbench/" in front.
        data_dir: where the rows are; see `load_rows`.
        seed: of the split into profile, test and report examples.
        profile_share: share of the documents (contexts) on whose rows heads are profiled.
        limit: the most examples of a split, the first in file order; None for all.
        questions: of each context; see `per_context`.

    Raises:
        RequestError: unknown task, or a share or limit out of range.
    """

    # The version moves with them.
    rules_digest = None

    def __init__(
        self,
        name: str,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
        profile_share: float = PROFILE_SHARE,
        limit: int | None = None,
        questions: int = 1,
    ) -> None:
        rules = spec_of(name)
        plain = name.removeprefix(PREFIX)

        def load() -> list[Row]:
            rows = load_rows(plain, data_dir)
            for row in rows:
                if row.length is None:
                    raise RequestError(f"{row.place}: field 'length' is missing.")
            return rows

        super().__init__(
            PREFIX + plain, rules, load, seed=seed, profile_share=profile_share, limit=limit, questions=questions
        )
