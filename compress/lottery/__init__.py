"""Quantization-aware pruning: train, prune, rewind, again; level by level, every level resumable.

    ticket = LotteryTicket(training=TrainConfig(epochs=60), fractions=(0.5, 0.8))
    levels = ticket.run(model, (x, y), (x_val, y_val), out=Path("runs/a"))

``iterative_l1`` is the pruning of the hls4ml paper as a ready ticket; ``run_together`` runs many tickets as one batched
computation per level.
"""

from compress.lottery.level import Level
from compress.lottery.ticket import SCHEMA, LotteryTicket, Rewind, iterative_l1
from compress.lottery.together import run_together

__all__ = ["SCHEMA", "Level", "LotteryTicket", "Rewind", "iterative_l1", "run_together"]
