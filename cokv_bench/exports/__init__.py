"""Head files as other projects read them: a file for each target, in the registry `EXPORTS`."""

from cokv_bench.exports.request import Request, Written

__all__ = ["Request", "Written"]
