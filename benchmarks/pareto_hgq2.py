"""HGQ2's side of benchmarks/pareto.py, run in a process of its own with a Python that has hgq2 and jax.

Its network and settings are those of its own small jet example (example/small_jet_tagger.ipynb): 16-64-32-32-5, a width
for every weight and every activation, 3 bits to begin with, Adam at a constant 5e-3, cross entropy from logits. The
example trains on 664,000 jets with a constant beta of 5e-6, in batches of 33,200; here beta rises along the training,
as its BetaScheduler and ParetoFront are meant to be used, and a batch has 1024 of the 70,000 jets, which reaches a
better front in the same time.

Reads the parts as an npz file and writes what it found as JSON, numbers of every network on its front included.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import keras
import numpy as np
from hgq.config import QuantizerConfig, QuantizerConfigScope
from hgq.layers import QDense
from hgq.regularizers import MonoL1
from hgq.utils import trace_minmax
from hgq.utils.sugar import BetaScheduler, Dataset, FreeEBOPs, PieceWiseSchedule

CLASSES = 5
#: Networks of the front that are evaluated on the test part: the best in each of so many steps of a factor in EBOPs.
STEP = 1.12


def network(beta: float) -> keras.Model:
    weights = QuantizerConfigScope(place="all", k0=1, b0=3, i0=0, default_q_type="kbi", overflow_mode="sat_sym")
    activations = QuantizerConfigScope(
        place="datalane", k0=0, default_q_type="kif", overflow_mode="wrap", f0=3, i0=3
    )
    with weights, activations:
        entering = QuantizerConfig(place="datalane", k0=1)
        leaving = QuantizerConfig(place="datalane", k0=1, fr=MonoL1(1e-3))
        model = keras.Sequential(
            [
                QDense(64, beta0=beta, iq_conf=entering, activation="relu"),
                QDense(32, beta0=beta, activation="relu"),
                QDense(32, beta0=beta, activation="relu"),
                QDense(CLASSES, beta0=beta, enable_oq=True, oq_conf=leaving),
            ]
        )
    model.build((None, 16))
    return model


class Front(keras.callbacks.Callback):
    """Keeps the weights of every network that no other beats in validation accuracy and EBOPs, as ParetoFront does."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[dict] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        assert logs is not None
        new = {"epoch": epoch, "accuracy": logs["val_accuracy"], "ebops": logs["ebops"]}
        if any(old["accuracy"] >= new["accuracy"] and old["ebops"] <= new["ebops"] for old in self.points):
            return
        self.points = [
            old for old in self.points if not (new["accuracy"] >= old["accuracy"] and new["ebops"] <= old["ebops"])
        ]
        self.points.append({**new, "cpu_s": time.process_time(), "weights": self.model.get_weights()})


def numbers(model: keras.Model) -> list[dict]:
    """The quantized weights (outputs, inputs) and biases, and the bits of the activations, sign left out, by layer."""
    return [
        {
            "weight": np.asarray(layer.qkernel, np.float64).T.tolist(),
            "bias": np.asarray(layer.qbias, np.float64).tolist(),
            "activation_bits": np.asarray(layer.iq.bits_((1, layer.kernel.shape[0]))).reshape(-1).astype(int).tolist(),
        }
        for layer in model.layers
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--beta", type=float, nargs=2, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    keras.utils.set_random_seed(given.seed)
    parts = np.load(given.parts)
    one_hot = np.eye(CLASSES, dtype=np.float32)
    x, y = parts["x_train"], one_hot[parts["y_train"]]
    validation = Dataset(parts["x_validation"], one_hot[parts["y_validation"]], batch_size=1 << 20, device="cpu:0")

    first, last = given.beta
    model = network(first)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss, metrics=["accuracy"], jit_compile=True, steps_per_execution=4)
    front = Front()
    schedule = PieceWiseSchedule([(0, first, "log"), (given.epochs, last, "constant")])
    model.fit(
        Dataset(x, y, batch_size=1024, device="cpu:0"),
        epochs=given.epochs,
        validation_data=validation,
        verbose=0,
        callbacks=[FreeEBOPs(), BetaScheduler(schedule), front],
    )
    trained = time.process_time()

    best: dict[int, dict] = {}
    for point in front.points:
        cell = round(float(np.log(point["ebops"]) / np.log(STEP)))
        if cell not in best or point["accuracy"] > best[cell]["accuracy"]:
            best[cell] = point
    found = []
    for point in sorted(best.values(), key=lambda point: point["ebops"]):
        model.set_weights(point.pop("weights"))
        # Its own last act: the integer bits that the training data need, without which wrapping would spoil it.
        point["ebops"] = trace_minmax(model, x, batch_size=len(x))
        logits = np.asarray(model(parts["x_test"], training=False), np.float64)
        found.append({**point, "logits": logits.tolist(), "layers": numbers(model)})
    with open(given.out, "w") as file:
        json.dump({"cpu_s": trained, "front": found}, file)


if __name__ == "__main__":
    main()
