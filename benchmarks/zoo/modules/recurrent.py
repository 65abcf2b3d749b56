"""Sequences without attention: LSTM, GRU, gated 1-D convolutions."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

VOCABULARY = 24


class BidirectionalLstm(nn.Module):
    """Two layers in both directions; the classifier reads the last layer's mean over time."""

    def __init__(self, times: int = 1):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 8 * times)
        self.lstm = nn.LSTM(
            8 * times, 10 * times, num_layers=2, bidirectional=True, batch_first=True
        )
        self.head = nn.Sequential(
            nn.Linear(20 * times, 12 * times), nn.ReLU(), nn.Linear(12 * times, 3)
        )

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.words(input_ids))[0].mean(1))


class Gru(nn.Module):
    """Features by a Linear, one layer, the last state."""

    def __init__(self, times: int = 1):
        super().__init__()
        self.features = nn.Linear(6, 12 * times)
        self.gru = nn.GRU(12 * times, 10 * times, batch_first=True)
        self.head = nn.Linear(10 * times, 3)

    def forward(self, signal: Tensor) -> Tensor:
        return self.head(self.gru(F.relu(self.features(signal)))[1][-1])


class GatedConv(nn.Module):
    """Convolutions over time whose halves gate each other (Dauphin et al., 2016)."""

    def __init__(self, times: int = 1):
        super().__init__()
        self.stem = nn.Conv1d(4, 16 * times, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv1d(8 * times, 16 * times, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm1d(16 * times) for _ in range(2))
        self.head = nn.Linear(8 * times, 3)

    def forward(self, signal: Tensor) -> Tensor:
        x = F.glu(self.stem(signal), dim=1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + F.glu(norm(conv(x)), dim=1)
        return self.head(F.avg_pool1d(x, 4).amax(-1))
