"""What a model is loaded from, for those that load it elsewhere."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cokv_bench.models.model import Model


@dataclass(frozen=True)
class ModelSpec:
    """The arguments of `load_model` that the command line has."""

    name: str = "smollm2-135m"
    revision: str | None = None
    dtype: str | None = None
    device: str | None = None
    device_map: str | None = None
    trust_remote_code: bool = False

    def load(self) -> "Model":
        """The model. Raises `RequestError` as `load_model` does."""
        from cokv_bench.models.loading import load_model  # Imports torch.

        return load_model(**asdict(self))
