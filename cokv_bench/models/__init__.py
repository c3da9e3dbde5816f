"""Loading models and putting text into them."""

from cokv_bench.models.chat import encode, encode_answer, encode_apart
from cokv_bench.models.loading import load_model
from cokv_bench.models.model import Model

__all__ = ["Model", "encode", "encode_answer", "encode_apart", "load_model"]
