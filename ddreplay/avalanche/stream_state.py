"""A stream that goes on where it stood: everything that a strategy knows between two experiences, in one file."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from avalanche.models.utils import avalanche_model_adaptation
from avalanche.training import LearningWithoutForgetting
from avalanche.training.plugins import EvaluationPlugin, LwFPlugin
from avalanche.training.plugins.clock import Clock
from torch import nn

from ddreplay.avalanche.balanced_finish import FinishPlugin
from ddreplay.avalanche.codec_consistency import CodecPlugin
from ddreplay.avalanche.dark_experience import DarkExperiencePlugin, StoredLogits
from ddreplay.avalanche.plugins import AugmentPlugin, CondensedReplayPlugin, MemoryOnlyPlugin
from ddreplay.avalanche.use_in import FittingBatch
from ddreplay.randomness import Random, global_state, set_global_state
from ddreplay.storage.sealed import read_sealed, write_sealed

__all__ = ["Stateful", "load_stream", "save_stream"]

_MAGIC = b"ddreplay stream 1\n"

_KEPT: dict[type, tuple[str, ...]] = {
    AugmentPlugin: ("random",),
    CodecPlugin: ("random", "seconds"),
    CondensedReplayPlugin: ("coding",),
    DarkExperiencePlugin: ("replay", "logits", "known"),
    EvaluationPlugin: (),
    FinishPlugin: (),
    FittingBatch: (),
    LearningWithoutForgetting: ("expcount", "prev_model", "prev_classes_by_task"),
    LwFPlugin: ("lwf",),
    MemoryOnlyPlugin: ("fresh",),
}
"""What changes from one experience to the next, by the part that holds it."""

_OF_STRATEGY = ("train_epochs", "batch_size_mem")
_PLAIN = (bool, int, float, str, type(None))


@runtime_checkable
class Stateful(Protocol):
    """A memory or a plugin of one's own that gives its state, as tensors and plain values, and takes it."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


def save_stream(path: str | Path, strategy: Any) -> Path:
    """Keep everything that the next experiences depend on, whole or not at all; call it between two experiences.

    Network, optimiser, clock, memory, plugins, and the states of the global random generators. Metrics of the evaluator are not kept.
    Plugins of this package, of `strategies/`, and ``LwFPlugin`` are known; those with plain values alone keep them; others need
    ``state_dict`` and ``load_state_dict`` (`Stateful`).

    Raises:
        TypeError: when a plugin or memory holds what is not known how to keep.
        OSError: when the file cannot be written; an older one is as it was.
    Example:
        done = load_stream(path, strategy, stream) if path.exists() else 0
        for experience in stream[done:]:
            strategy.train(experience)
            save_stream(path, strategy)
    """
    memories = _memories(strategy)
    state = {
        "strategy": _identity(strategy),
        "experiences": strategy.clock.train_exp_counter,
        "model": strategy.model.state_dict(),
        "optimizer": _optimizer_state(strategy),
        "numbers": {name: vars(strategy)[name] for name in _OF_STRATEGY if name in vars(strategy)},
        "clock": _plain_state(strategy.clock),
        "memories": [memory.state_dict() for memory in memories],
        "plugins": [_state_of(plugin) for plugin in _plugins(strategy)],
        "random": global_state(),
    }
    return write_sealed(path, _MAGIC, state)


def load_stream(path: str | Path, strategy: Any, stream: Sequence[Any]) -> int:
    """Put a new strategy, made as the kept one was, where that stood.

    Networks that grow are grown by the experiences that are over; their data are not touched. The global random generators are set, so
    that the stream goes on to the same bits as one that was never interrupted (on the CPU, at the same number of threads).

    Args:
        strategy: of the same class, network, optimiser, plugins and memory; its weights and contents are replaced.
        stream: the experiences that it is trained on, from the first.
    Returns:
        How many of them are over.
    Raises:
        OSError: when there is no such file.
        ValueError: when it is damaged, or another strategy's; make the strategy anew then.
    """
    path = Path(path)
    state = read_sealed(path, _MAGIC, "stream file")
    if state.get("strategy") != _identity(strategy):
        raise ValueError(
            f"stream file {path} is that of {state.get('strategy')}, and the strategy is {_identity(strategy)}; make it as it was, "
            "or give another file"
        )
    try:
        return _put(state, strategy, stream)
    except Exception as error:  # every part reads its own, and anything may be wrong in it
        raise ValueError(f"stream file {path} does not fit the strategy: {error!r}; make the strategy anew") from error


def _put(state: Mapping[str, Any], strategy: Any, stream: Sequence[Any]) -> int:
    done = state["experiences"]
    if type(done) is not int or not 0 <= done <= len(stream):
        raise ValueError(f"{done!r} experiences are over, of a stream of {len(stream)}")
    for experience in stream[:done]:
        avalanche_model_adaptation(strategy.model, experience)
    strategy.model.load_state_dict(state["model"])
    strategy.make_optimizer(reset_optimizer_state=True)
    _put_optimizer(strategy, state["optimizer"])
    for memory, kept in zip(_memories(strategy), state["memories"], strict=True):
        memory.load_state_dict(kept)
    for plugin, kept in zip(_plugins(strategy), state["plugins"], strict=True):
        _restore(plugin, kept, strategy)
    _put_plain(strategy.clock, state["clock"])
    for name, value in state["numbers"].items():
        setattr(strategy, name, value)
    set_global_state(state["random"])
    return done


def _identity(strategy: Any) -> str:
    parts = [type(part).__name__ for part in (strategy, *_plugins(strategy), *_memories(strategy))]
    return ", ".join([*parts, type(strategy.model).__name__, type(strategy.optimizer).__name__])


def _plugins(strategy: Any) -> list[Any]:
    return [plugin for plugin in strategy.plugins if not isinstance(plugin, Clock)]


def _memories(strategy: Any) -> list[Stateful]:
    """Every storage policy, once."""
    parts = [strategy, *strategy.plugins]
    parts += [part.replay for part in parts if isinstance(part, DarkExperiencePlugin)]
    found = {
        id(vars(part)["storage_policy"]): vars(part)["storage_policy"]
        for part in parts
        if "storage_policy" in vars(part)
    }
    for memory in found.values():
        if not isinstance(memory, Stateful):
            raise TypeError(
                f"{type(memory).__name__} has no state_dict and cannot be kept; take a RingBuffer, which holds real images too"
            )
    return list(found.values())


def _state_of(part: Any) -> dict[str, Any]:
    kind = type(part)
    if kind in _KEPT:
        return {name: _encoded(vars(part)[name]) for name in _KEPT[kind]}
    return part.state_dict() if isinstance(part, Stateful) else _plain_state(part)


def _restore(part: Any, state: Mapping[str, Any], strategy: Any) -> None:
    kind = type(part)
    if kind not in _KEPT:
        if isinstance(part, Stateful):
            part.load_state_dict(state)
        else:
            _put_plain(part, state)
        return
    if set(state) != set(_KEPT[kind]):
        raise ValueError(f"{kind.__name__} keeps {_KEPT[kind]}, got {sorted(state)}")
    for name, value in state.items():
        if isinstance(value, dict) and "part" in value:
            _restore(vars(part)[name], value["part"], strategy)
        else:
            setattr(part, name, _decoded(value, strategy))


def _encoded(value: Any) -> Any:
    """As tensors and plain values: a dictionary of one key says what it was."""
    if isinstance(value, _PLAIN):
        return value
    if type(value) in _KEPT:
        return {"part": _state_of(value)}
    if isinstance(value, nn.Module):
        return {"module": value.state_dict(), "training": value.training}
    if isinstance(value, Random):
        return {"random": value.state_dict(), "device": str(value.device.device)}
    if isinstance(value, StoredLogits):
        return {"logits": [value.packed, list(value.shape), value.low, value.high, value.bits]}
    if isinstance(value, set):
        return {"set": sorted(value)}
    if isinstance(value, Mapping):
        return {"items": [[key, _encoded(item)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_encoded(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be kept")


def _decoded(value: Any, strategy: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item, strategy) for item in value]
    if not isinstance(value, dict):
        return value
    if "module" in value:  # all of them are, or were, copies of the network
        module = copy.deepcopy(strategy.model)
        module.load_state_dict(value["module"])
        return module.train(value["training"])
    if "random" in value:
        random = Random(0, value["device"])
        random.load_state_dict(value["random"])
        return random
    if "logits" in value:
        packed, shape, *others = value["logits"]
        return StoredLogits(packed, tuple(shape), *others)
    if "set" in value:
        return set(value["set"])
    return {key: _decoded(item, strategy) for key, item in value["items"]}


def _plain_state(part: Any) -> dict[str, Any]:
    other = {name: type(v).__name__ for name, v in vars(part).items() if not isinstance(v, _PLAIN)}
    if other:
        raise TypeError(
            f"{type(part).__name__} holds {other}, which cannot be kept; give it state_dict() and load_state_dict(state)"
        )
    return dict(vars(part))


def _put_plain(part: Any, state: Mapping[str, Any]) -> None:
    if set(state) != set(vars(part)) or not all(isinstance(value, _PLAIN) for value in state.values()):
        raise ValueError(f"{type(part).__name__} has {sorted(vars(part))}, got {sorted(state)}")
    vars(part).update(state)


def _optimizer_state(strategy: Any) -> dict[str, Any]:
    """By the names of parameters: their order differs in networks that grew."""
    names = {id(parameter): name for name, parameter in strategy.model.named_parameters()}
    groups = []
    for group in strategy.optimizer.param_groups:
        about = {key: value for key, value in group.items() if key != "params"}
        groups.append({**about, "names": [names[id(parameter)] for parameter in group["params"]]})
    state = {names[id(parameter)]: value for parameter, value in strategy.optimizer.state.items()}
    return {"groups": groups, "state": state}


def _put_optimizer(strategy: Any, kept: Mapping[str, Any]) -> None:
    optimizer, parameters = strategy.optimizer, dict(strategy.model.named_parameters())
    names = [name for group in kept["groups"] for name in group["names"]]
    if len(kept["groups"]) != len(optimizer.param_groups) or sorted(names) != sorted(parameters):
        raise ValueError(f"the optimiser moves {len(parameters)} parameters, and the file holds {len(names)} others")
    for group, said in zip(optimizer.param_groups, kept["groups"], strict=True):
        group["params"] = [parameters[name] for name in said["names"]]
    state = optimizer.state_dict()
    number = {name: k for k, name in enumerate(names)}
    state["state"] = {number[name]: value for name, value in kept["state"].items()}
    for group, said in zip(state["param_groups"], kept["groups"], strict=True):
        group.update({key: value for key, value in said.items() if key != "names"})
    optimizer.load_state_dict(state)
