"""The prompt cache, what to keep of it, and decoding from what was kept."""

from cokv_bench.kvcache.compress import Compressed, compress
from cokv_bench.kvcache.decode import Generation, decode
from cokv_bench.kvcache.prefill import prefill
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.ragged import RaggedCache
from cokv_bench.kvcache.selection import Selection
from cokv_bench.kvcache.shared import SharedCache

__all__ = [
    "Compressed",
    "Generation",
    "Prompt",
    "RaggedCache",
    "Selection",
    "SharedCache",
    "compress",
    "decode",
    "prefill",
]
