"""What a run's numbers are compared with, as it is asked for."""

from dataclasses import dataclass
from typing import Annotated

from cokv_bench.option import Option


@dataclass(frozen=True)
class Comparing:
    """Methods of the run, and published scores, beside which its numbers are put."""

    baselines: Annotated[
        tuple[str, ...],
        Option(
            "Methods that the others are compared with, comma separated. Default: snapkv, if it is run.",
            name="baseline",
        ),
    ] = ()
    reference: Annotated[
        str | None, Option("Show published numbers next to the measured ones: cokv, adakv or a CSV file.")
    ] = None
