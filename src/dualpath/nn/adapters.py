"""The trained parts: bottleneck adapters and the classifier."""

from __future__ import annotations

import math
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.nn import int8
from dualpath.nn.trained import Linear


class Adapter(nn.Module):
    """A(z) = W_up GELU(W_down z + b) + b', without a skip of its own (method.md section 1).

    W_up and both biases start at zero, so a fresh adapter adds nothing; W_down is Kaiming-uniform with a = sqrt 5.
    Trained size: 2 d b + b + d.

    Args:
        width: d.
        bottleneck: b.
        dropout: share of the bottleneck that is dropped in training.
        activation: instead of GELU.
    """

    def __init__(
        self, width: int, bottleneck: int, *, dropout: float = 0.0, activation: Callable[[Tensor], Tensor] = F.gelu
    ) -> None:
        super().__init__()
        self.dropout, self.activation = dropout, activation
        self.down = Linear(width, bottleneck)
        self.up = Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, z: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Tokens to what is added to them."""
        made = int8.mlp(z, self.down, self.up, "none") if self.activation is F.gelu and not self.training else None
        if made is not None:
            return made
        return self.up(F.dropout(self.activation(self.down(z)), self.dropout, self.training))


class BlockAdapters(nn.Module):
    """The adapters of one path in one block: at attention, at the MLP and, in the authors' code, one before attention."""

    def __init__(self, width: int, bottleneck: int, *, dropout: float = 0.0, before: bool = False) -> None:
        super().__init__()
        self.before = Adapter(width, bottleneck, dropout=dropout) if before else None
        self.attention = Adapter(width, bottleneck, dropout=dropout)
        self.mlp = Adapter(width, bottleneck, dropout=dropout)


class Classifier(nn.Module):
    """Linear - GELU - Linear, in the type of its weights, which is fp32 unless the whole model was converted."""

    def __init__(self, inputs: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.out = nn.Linear(hidden, num_classes)

    def forward(self, features: Float[Tensor, "b i"]) -> Float[Tensor, "b k"]:
        """Features of a clip to one logit a class."""
        return self.out(F.gelu(self.hidden(features.to(self.hidden.weight.dtype))))


class OrderedClassifier(nn.Module):
    """One linear layer on parts of features side by side, each normed without weights; it begins at zero.

    Unlike `Classifier` it can start from the weights of a regression on frozen features, which the adapters do not change
    before they are trained (`dualpath.engine.baseline.start_classifier`).
    """

    def __init__(self, inputs: int, features: int, num_classes: int) -> None:
        super().__init__()
        self.features = features  # of a part
        self.out = nn.Linear(inputs, num_classes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Float[Tensor, "b i"]) -> Float[Tensor, "b k"]:
        """Features of a clip to one logit a class."""
        return self.out(self.norm(features.to(self.out.weight.dtype)))

    def norm(self, features: Float[Tensor, "b i"]) -> Float[Tensor, "b i"]:
        """Each part normed by itself."""
        return F.layer_norm(features.unflatten(-1, (-1, self.features)), (self.features,)).flatten(-2)
