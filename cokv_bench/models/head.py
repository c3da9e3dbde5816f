"""From last hidden states to logits as the network itself does it: soft caps, scales and multipliers are its own."""

from typing import Any

from torch import Tensor, nn


class Head:
    """A network without its decoder.

    It is a second instance of the network's class that shares the network's modules, but for the one that holds the
    decoder; in its place stands a module that hands on the states it is given. Nothing of the network is changed.
    """

    def __init__(self, network: Any, decoder: Any) -> None:
        body = next(
            name for name, child in network.named_children() if any(each is decoder for each in child.modules())
        )
        self._network = object.__new__(type(network))
        # What accelerate hangs into an instance calls that very instance.
        own = {name: value for name, value in vars(network).items() if name not in ("forward", "_old_forward")}
        self._network.__dict__.update(own, _modules={**network._modules, body: _Given(network._modules[body])})

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] of last hidden states [..., width]."""
        flat = hidden.reshape(1, -1, hidden.shape[-1])
        logits: Tensor = self._network(inputs_embeds=flat, use_cache=False).logits
        return logits.view(*hidden.shape[:-1], -1)


class _Given(nn.Module):
    """Hands on what it is given; in all else it is the module in whose place it stands."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        # Not as a module of this one, which has none.
        object.__setattr__(self, "_original", original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> "_States":
        return _States(inputs_embeds)


class _States:
    """What a decoder returns, of which there is nothing but the states."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, place: int) -> Tensor:
        return self.last_hidden_state

    def __getattr__(self, name: str) -> None:
        return None
