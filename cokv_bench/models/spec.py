"""What a model is loaded from, for those that load it elsewhere."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from cokv_bench.option import Option

if TYPE_CHECKING:
    from cokv_bench.models.model import Model

_PANEL = "Model"


@dataclass(frozen=True)
class ModelSpec:
    """The arguments of `load_model` that the command line has, and with how many CPU threads the model runs."""

    name: Annotated[
        str,
        Option(
            "Embedded name, model folder, GGUF file, or hub id (owner/name or owner/name/FILE.gguf).",
            _PANEL,
            name="model",
        ),
    ] = "smollm2-135m"
    revision: Annotated[str | None, Option("Branch, tag or commit of a hub model.", _PANEL)] = None
    dtype: Annotated[str | None, Option("float32, bfloat16, float16 or auto. Default: float32 on the CPU.", _PANEL)] = (
        None
    )
    device: Annotated[str | None, Option("cpu, cuda or cuda:1. Default: a GPU if there is one.", _PANEL)] = None
    device_map: Annotated[
        str | None, Option("How to spread a large model over devices, such as 'auto' (needs accelerate).", _PANEL)
    ] = None
    trust_remote_code: Annotated[bool, Option("Run code that comes with a hub model.", _PANEL)] = False
    skip_check: Annotated[
        bool, Option("Skip the check that the model's logits equal those of plain transformers.", _PANEL)
    ] = False

    threads: Annotated[
        int | None,
        Option(
            "Threads of a model on the CPU. Default: OMP_NUM_THREADS if set, else the fastest in a short timing.",
            _PANEL,
            least=1,
            # Systems refuse a process many more, and PyTorch ends it then.
            most=1024,
        ),
    ] = None

    @property
    def on_cpu(self) -> bool:
        """Whether the model runs on the CPU of this machine."""
        import torch

        if self.device is None:
            return self.device_map is None and not torch.cuda.is_available()
        return self.device == "cpu"

    def load(self) -> "Model":
        """The model. Raises `RequestError` as `load_model` does."""
        from cokv_bench.models.loading import load_model  # Imports torch.

        return load_model(**{name: value for name, value in asdict(self).items() if name != "threads"})
