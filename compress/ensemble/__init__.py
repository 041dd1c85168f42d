"""Many replicas of one network, of other widths, seeds and masks, trained as one batched computation.

    trained = train_ensemble(models, (x, y), (x_val, y_val), configs, out=Path("runs/sweep"))

Replica i ends as ``compress.train.train(models[i], ..., configs[i])`` alone would end, to the last bit: weights,
statistics, ranges, optimiser, history and the epoch it stops at. A step computes forward and backward explicitly, over
memory that stays where it is; autograd and its hundreds of small operations per replica are what it saves.
"""

from compress.ensemble.training import train_ensemble

__all__ = ["train_ensemble"]
