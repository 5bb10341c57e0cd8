"""Shape annotations are checked while tests run; one thread, so that results do not depend on the machine's cores."""

from __future__ import annotations

from jaxtyping import install_import_hook

hook = install_import_hook("ddreplay", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(1)
