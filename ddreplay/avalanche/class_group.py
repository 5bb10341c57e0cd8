"""One class of a memory, as Avalanche asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avalanche.training.storage_policy import ExemplarsBuffer

if TYPE_CHECKING:
    from ddreplay.avalanche.storage_policies import CondensedBuffer

__all__ = ["ClassGroup", "Group"]

Group = tuple[int, int]
"""(task label, class id)"""


class ClassGroup(ExemplarsBuffer):  # type: ignore[misc]
    """The images of one class, or of one class of a task: a view of the policy that stores them.

    Attributes:
        task, class_id: which one. max_size: its budget.
    """

    def __init__(self, owner: CondensedBuffer, group: Group, max_size: int) -> None:
        super().__init__(max_size)
        self.owner, (self.task, self.class_id) = owner, group
        self._images: Any = None

    @property
    def buffer(self) -> Any:
        """The dataset of these images alone."""
        if self._images is None:
            self._images = self.owner._dataset([(self.task, self.class_id)])
        return self._images

    def resize(self, strategy: Any, new_size: int) -> None:
        """Keep the first ``new_size`` stored images of this class; a larger size changes nothing."""
        self.owner._shorten((self.task, self.class_id), new_size)

    def post_adapt(self, agent_state: Any, exp: Any) -> None:
        """Not for one class: the policy that owns the group condenses all classes of an experience together."""
        raise TypeError("a group of a CondensedBuffer cannot be updated alone; update the CondensedBuffer")
