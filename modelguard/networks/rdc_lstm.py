"""RDC-LSTM: densely connected bidirectional convolutional LSTMs with a long residual, as in RISTN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class BidirectionalConvLSTM(nn.Module):
    """One convolutional LSTM forward through a clip and one backward, without peepholes.

    Both take their steps together. What a step gets from the input is computed for all frames at once.

    Args:
        channels: of the input.
        growth: hidden channels of a direction.
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.growth = growth
        self.inputs = nn.Conv2d(channels, 8 * growth, 3, padding=1)  # two directions of four gates
        self.recurrent = nn.Conv2d(2 * growth, 8 * growth, 3, padding=1, groups=2, bias=False)
        for convolution in (self.inputs, self.recurrent):
            nn.init.normal_(convolution.weight, std=0.02)
        nn.init.zeros_(self.inputs.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, state: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """Return the hidden features of all frames, and the forward state after the first `keep`.

        Args:
            x: (T, B, channels, h, w).
            state: of the forward direction before the first frame, hidden and cell: (2, B, growth, h, w). The
                backward direction starts from zeros.
            keep: from 1 to T.

        Returns:
            (T, B, 2*growth, h, w), and a state like the one given.
        """
        frames = len(x)
        gates = self.inputs(x.flatten(0, 1)).unflatten(0, (frames, -1))
        forward, backward = gates.chunk(2, 2)
        # (B, direction, growth, h, w); in fp32, as rounding errors of a carried cell would add up
        hidden, cell = torch.stack([state, torch.zeros_like(state)], 2).float().unbind(0)
        ahead, behind = [], []
        for number in range(frames):
            step = torch.cat([forward[number], backward[frames - 1 - number]], 1)
            step = (step + self.recurrent(hidden.flatten(1, 2).to(gates.dtype))).float()
            taken, forgotten, shown, new = step.unflatten(1, (2, 4, self.growth)).unbind(2)
            cell = forgotten.sigmoid() * cell + taken.sigmoid() * new.tanh()
            hidden = shown.sigmoid() * cell.tanh()
            ahead.append(hidden[:, 0])
            behind.append(hidden[:, 1])
            if number == keep - 1:
                state = torch.stack([hidden[:, 0], cell[:, 0]])
        both = [torch.cat(pair, 1) for pair in zip(ahead, behind[::-1], strict=True)]
        return torch.stack(both).to(gates.dtype), state


class RDCLSTM(nn.Module):
    """Layers that each see the outputs of all layers before; the input is added to all of them side by side.

    Only the first layer sees the input itself. It has as many channels as all outputs together.

    Args:
        layers: number of them.
        growth: hidden channels of a layer and direction.
    """

    def __init__(self, layers: int, growth: int) -> None:
        super().__init__()
        self.growth, self.channels = growth, 2 * growth * layers
        sizes = [self.channels, *(2 * growth * number for number in range(1, layers))]
        self.layers = nn.ModuleList(BidirectionalConvLSTM(size, growth) for size in sizes)

    def forward(
        self, x: Tensor, state: Tensor | None, keep: int, checkpointing: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the features of a clip and the forward state after its first `keep` frames.

        Args:
            x: (T, B, channels, h, w).
            state: (layers, 2, B, growth, h, w), see `BidirectionalConvLSTM`; None for zeros.
            keep: from 1 to T.
            checkpointing: compute each layer again in the backward pass instead of keeping what is inside.

        Returns:
            (T, B, channels, h, w), and the state.
        """
        if state is None:
            size = (len(self.layers), 2, x.shape[1], self.growth, *x.shape[3:])
            state = torch.zeros(size, device=x.device)
        seen, states = [x], []
        for number, layer in enumerate(self.layers):
            source = torch.cat(seen[1:] or seen, 2)
            if checkpointing:
                out, carried = checkpoint(layer, source, state[number], keep, use_reentrant=False)
            else:
                out, carried = layer(source, state[number], keep)
            seen.append(out)
            states.append(carried)
        return torch.cat(seen[1:], 2) + x, torch.stack(states)
