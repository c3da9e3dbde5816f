"""Loading models and putting text into them."""

from typing import TYPE_CHECKING

from cokv_bench.lazy import lazily

if TYPE_CHECKING:
    from cokv_bench.models.chat import encode, encode_answer, encode_apart, encode_turn
    from cokv_bench.models.loading import load_model
    from cokv_bench.models.model import Model

__all__ = ["Model", "encode", "encode_answer", "encode_apart", "encode_turn", "load_model"]

_CHAT = dict.fromkeys(("encode", "encode_answer", "encode_apart", "encode_turn"), "chat")
__getattr__ = lazily(__name__, {"Model": "model", "load_model": "loading", **_CHAT})
