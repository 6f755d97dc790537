# SPDX-License-Identifier: Apache-2.0
"""Each optimizer as its paper writes it, in float64, for one weight."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Settings:
    """The constants of a run at a constant rate."""

    rate: float
    beta1: float
    beta2: float
    epsilon: float
    decay: float
    momentum: float = 0.7


def reference(
    kind: str,
    settings: Settings,
    cuts: list[int] | None,
    weight: np.ndarray,
    gradients: list,
) -> np.ndarray:
    """Returns the weight after one update for each gradient.

    `cuts` are the columns between matrices that Muon takes apart; None leaves the
    weight to AdamW.
    """
    decay = settings.decay if weight.ndim > 1 else 0.0
    if kind == "muon":
        if cuts is not None:
            return muon(settings, weight, gradients, decay, cuts)
        kind = "adamw"
    if kind in ("adam", "adamw"):
        return adam(settings, weight, gradients, decay if kind == "adamw" else 0.0)
    if kind == "lion":
        return lion(settings, weight, gradients, decay)
    if kind == "adafactor":
        return adafactor(settings, weight, gradients)
    return heavy_ball(
        settings, weight, gradients, settings.momentum if kind == "momentum" else 0.0
    )


def adam(s: Settings, w: np.ndarray, gradients: list, decay: float) -> np.ndarray:
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = s.beta1 * m + (1 - s.beta1) * g
        v = s.beta2 * v + (1 - s.beta2) * g**2
        mean, square = m / (1 - s.beta1**t), v / (1 - s.beta2**t)
        w = w - s.rate * (mean / (np.sqrt(square) + s.epsilon) + decay * w)
    return w


def heavy_ball(s: Settings, w: np.ndarray, gradients: list, mu: float) -> np.ndarray:
    u = 0.0
    for g in gradients:
        u = mu * u + g
        w = w - s.rate * u
    return w


def lion(s: Settings, w: np.ndarray, gradients: list, decay: float) -> np.ndarray:
    m = 0.0
    for g in gradients:
        c = np.sign(s.beta1 * m + (1 - s.beta1) * g)
        w = w - s.rate * (c + decay * w)
        m = s.beta2 * m + (1 - s.beta2) * g
    return w


def adafactor(s: Settings, w: np.ndarray, gradients: list) -> np.ndarray:
    r = c = v = 0.0
    for t, g in enumerate(gradients, 1):
        beta, square = 1 - t**-0.8, g**2 + 1e-30
        if w.ndim > 1:
            r = beta * r + (1 - beta) * square.sum(axis=1)
            c = beta * c + (1 - beta) * square.sum(axis=0)
            v = np.outer(r, c) / r.sum()
        else:
            v = beta * v + (1 - beta) * square
        u = g / np.sqrt(v)
        u = u / max(1.0, np.sqrt(np.mean(u**2)))
        w = w - s.rate * max(1e-3, np.sqrt(np.mean(w**2))) * u
    return w


def muon(
    s: Settings, w: np.ndarray, gradients: list, decay: float, cuts: list[int]
) -> np.ndarray:
    m = np.zeros_like(w)
    for g in gradients:
        m = s.momentum * m + (1 - s.momentum) * g
        ahead = s.momentum * m + (1 - s.momentum) * g
        parts = [newton_schulz(p) for p in np.split(ahead, cuts, axis=1)]
        scaled = [0.2 * np.sqrt(max(p.shape)) * p for p in parts]
        w = w - s.rate * (np.concatenate(scaled, axis=1) + decay * w)
    return w


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """Jordan's quintic on the singular values themselves."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.linalg.norm(matrix)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return (left * values) @ right
