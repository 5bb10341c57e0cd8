"""DER++ with stored outputs: the loss written out, what is stored, what stays, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from avalanche.training.supervised import Naive
from toy_streams import MEAN, STD, label_free_stream, linear, task_labelled_stream

from ddreplay.avalanche import CondensedBuffer, DarkExperiencePlugin, RingBuffer
from ddreplay.avalanche.dark_experience import StoredLogits
from ddreplay.storage.codecs import jpeg

STREAMS = {"labelled": task_labelled_stream, "label-free": lambda: label_free_stream([[0, 1], [2, 3], [4, 5]])}


def ring(**how: Any) -> CondensedBuffer:
    return RingBuffer(**{"images_per_class": 4, "mean": MEAN, "std": STD, "device": "cpu", **how})


def base(plugins: list[Any], **how: Any) -> Any:
    model = linear()
    how = {"train_mb_size": 8, "train_epochs": 2, "evaluator": None, **how}
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Naive(model=model, optimizer=optimizer, criterion=torch.nn.CrossEntropyLoss(), plugins=plugins, **how)


def held(memory: Any) -> tuple[torch.Tensor, list[int]]:
    items = [memory.buffer.eval()[k] for k in range(len(memory.buffer))]
    return torch.stack([item[0] for item in items]), [int(item[1]) for item in items]


class Losses(SupervisedPlugin):  # type: ignore[misc]
    """Compares every loss with the equation, from what the plugin had stored before the experience."""

    def __init__(self, dark: DarkExperiencePlugin) -> None:
        super().__init__()
        self.dark, self.compared = dark, 0
        self.stored: list[tuple[torch.Tensor, int, torch.Tensor | None]] = []
        self.known: list[int] = []

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.known = list(self.dark.known)
        self.stored, taken = [], dict.fromkeys(self.dark.logits, 0)
        for x, y in zip(*held(self.dark.storage_policy), strict=True) if self.dark.known else ():
            values = self.dark.logits[y].values()
            self.stored.append((x, y, values[taken[y]] if taken[y] < len(values) else None))
            taken[y] += 1

    def after_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if not self.stored:
            assert len(strategy.mb_y) <= 8
            return
        entropy = torch.nn.functional.cross_entropy
        x, y, out = strategy.mb_x, strategy.mb_y, strategy.mb_output.detach()
        new = [row for row in range(len(y)) if not any(torch.equal(x[row], image) for image, _, _ in self.stored)]
        old = [row for row in range(len(y)) if row not in new]
        assert len(old) == 6
        loss, errors = entropy(out[new], y[new]) + 0.7 * entropy(out[old], y[old]), []
        for row in old:
            (told,) = [(label, z) for image, label, z in self.stored if torch.equal(image, x[row])]
            assert told[0] == y[row]
            if told[1] is not None:
                errors += [(out[row, c] - told[1][k]) ** 2 for k, c in enumerate(self.known[: len(told[1])])]
        if errors:
            loss = loss + 0.3 * torch.stack(errors).mean()
        torch.testing.assert_close(strategy.loss.detach().squeeze(), loss)
        self.compared += 1


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("limit", [None, 14])
def test_the_loss_is_the_equation(stream: str, limit: int | None) -> None:
    dark = DarkExperiencePlugin(ring(), alpha=0.3, beta=0.7, batch_size_mem=6, logit_bytes_per_class=limit)
    strategy = base([dark, losses := Losses(dark)])
    for experience in STREAMS[stream]().train_stream:
        strategy.train(experience)
    assert losses.compared == 12
    assert all(label.nbytes <= limit for label in dark.logits.values()) if limit else True
    counts = {label: len(stored) for label, stored in dark.logits.items()}
    first, last = (int(e.dataset.targets[0]) for e in (STREAMS[stream]().train_stream[k] for k in (0, 2)))
    assert (counts[first], counts[last]) == ((3, 1) if limit else (4, 4))


@pytest.mark.parametrize(
    "memory",
    [
        ring,
        lambda: ring(images_per_class=None, max_size=12, adaptive_size=True, codec=jpeg(20)),
        lambda: ClassBalancedBuffer(12),
    ],
)
def test_outputs_stay_with_their_images(memory: Any) -> None:
    strategy = base([dark := DarkExperiencePlugin(policy := memory())])
    said: dict[bytes, list[float]] = {}
    places: dict[int, torch.Tensor] = {}
    for experience in task_labelled_stream().train_stream:
        strategy.train(experience)
        own = {int(c) for c in experience.dataset.targets}
        x, y = held(policy)
        row = dict.fromkeys(y, 0)
        for image, label in zip(x, y, strict=True):
            stored = dark.logits[label]
            values = stored.values()[row[label]]
            if label in own:
                with torch.no_grad():
                    wanted = strategy.model(image[None])[0, dark.known]
                assert (values - wanted).abs().max() <= (stored.high - stored.low) / 255 * 0.51
                said[image.numpy().tobytes()] = values.tolist()
            elif image.numpy().tobytes() in said:
                assert said[image.numpy().tobytes()] == values.tolist()
            else:  # encoded anew
                assert torch.equal(values, places[label][row[label]])
            row[label] += 1
        places = {label: stored.values() for label, stored in dark.logits.items()}
    assert {label: len(stored) for label, stored in dark.logits.items()} == row


def test_what_outputs_cost_is_told() -> None:
    evaluator = EvaluationPlugin(accuracy_metrics(stream=True))
    strategy = base([dark := DarkExperiencePlugin(memory := ring())], evaluator=evaluator)
    for experience in task_labelled_stream().train_stream:
        result = strategy.train(experience)
    bytes_of_outputs = 8 * (2 + 4 + 6) + 6 * 8 + 2 * 6  # images times classes known, ranges, names of classes
    assert dark.nbytes == bytes_of_outputs
    assert result["Memory_Logit_Bytes/train_phase/train_stream"] == bytes_of_outputs
    assert result["Memory_Bytes/train_phase/train_stream"] == memory.nbytes


def test_eight_bits_come_back_within_half_a_level() -> None:
    logits = torch.randn(20, 7) * 5
    stored = StoredLogits.of(logits)
    assert stored.codes.dtype == torch.uint8
    assert stored.nbytes == 148
    assert (stored.values() - logits).abs().max() <= (logits.max() - logits.min()) / 255 * 0.501
    torch.testing.assert_close(StoredLogits.of(torch.full((3, 2), 1.5)).values(), torch.full((3, 2), 1.5))
    assert StoredLogits.of(torch.zeros(0, 3)).values().shape == (0, 3)


def test_four_bits_are_half_the_bytes_and_come_back_within_half_a_level() -> None:
    logits = torch.randn(20, 7) * 5
    stored = StoredLogits.of(logits, bits=4)
    assert stored.nbytes == 20 * 7 // 2 + 8
    assert (stored.values() - logits).abs().max() <= (logits.max() - logits.min()) / 15 * 0.501
    torch.testing.assert_close(stored.select([3, 1]).values(), stored.values()[[3, 1]])
    dark = DarkExperiencePlugin(ring(), logit_bits=4, logit_bytes_per_class=14)
    strategy = base([dark])
    for experience in task_labelled_stream().train_stream:
        strategy.train(experience)
    # of 2, 4 and 6 classes known, in 6 bytes
    assert sorted(len(stored) for stored in dark.logits.values()) == [2, 2, 3, 3, 4, 4]


def test_coding_and_finishing_are_those_of_replay() -> None:
    class Steps(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.images: list[torch.Tensor] = []

        def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            self.images.append(strategy.mb_x)

    dark = DarkExperiencePlugin(memory := ring(codec=jpeg(10)), finish_steps=3)
    strategy = base([dark, steps := Steps()])
    for experience in task_labelled_stream().train_stream:
        steps.images.clear()
        strategy.train(experience)
        x, _ = held(memory)
        for step in steps.images[-3:]:
            assert all(bool((x == image).flatten(1).all(1).any()) for image in step)
        crisp = torch.stack([experience.dataset[k][0] for k in range(len(experience.dataset))])
        assert not any(bool((crisp == image).flatten(1).all(1).any()) for step in steps.images for image in step)


@pytest.mark.parametrize(
    "wrong", [{"alpha": -1.0}, {"beta": -0.1}, {"logit_bytes_per_class": -5}, {"logit_bits": 9}, {"finish_steps": -1}]
)
def test_wrong_values_are_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        DarkExperiencePlugin(ring(), **wrong)
