"""What is said where a forward pass has broken down: NaN would otherwise be read as token 0, and scored."""

from cokv_bench.errors import RequestError
from cokv_bench.models.model import Model


def not_finite(model: Model, what: str, place: str = "") -> RequestError:
    """The error to raise.

    Args:
        what: which numbers are infinite or NaN, as a plural.
        place: where they come from, if it is known.
    """
    dtype = str(model.network.dtype).removeprefix("torch.")
    return RequestError(
        f"{what[:1].upper()}{what[1:]} of '{model.name}' in {dtype} are not finite{place}; try a wider dtype, such as "
        "float32, and if that does not help, check the weights."
    )
