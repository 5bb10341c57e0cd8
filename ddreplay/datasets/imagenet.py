"""ImageNet's images as files, whole or ten classes of it by the subsets that papers condense.

Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022: the subsets and the order of their
classes as in its released code, which names them by their number in ILSVRC 2012. ImageNette and ImageWoof are fast.ai's.
"""

from __future__ import annotations

from pathlib import Path

from ddreplay.datasets.files import Fit, read_folder
from ddreplay.datasets.image_data import Splits

__all__ = ["SUBSETS", "read_imagenet"]

SUBSETS: dict[str, dict[str, str]] = {
    "nette": {
        "n01440764": "tench", "n02102040": "English springer", "n02979186": "cassette player", "n03000684": "chain saw",
        "n03028079": "church", "n03394916": "French horn", "n03417042": "garbage truck", "n03425413": "gas pump",
        "n03445777": "golf ball", "n03888257": "parachute",
    },
    "woof": {
        "n02096294": "Australian terrier", "n02093754": "Border terrier", "n02111889": "Samoyed", "n02088364": "beagle",
        "n02086240": "Shih-Tzu", "n02089973": "English foxhound", "n02087394": "Rhodesian ridgeback", "n02115641": "dingo",
        "n02099601": "golden retriever", "n02105641": "Old English sheepdog",
    },
    "fruit": {
        "n07753275": "pineapple", "n07753592": "banana", "n07745940": "strawberry", "n07747607": "orange",
        "n07749582": "lemon", "n07768694": "pomegranate", "n07753113": "fig", "n07720875": "bell pepper",
        "n07718472": "cucumber", "n07742313": "Granny Smith",
    },
    "meow": {
        "n02123045": "tabby", "n02123159": "tiger cat", "n02123394": "Persian cat", "n02123597": "Siamese cat",
        "n02124075": "Egyptian cat", "n02129165": "lion", "n02129604": "tiger", "n02128925": "jaguar",
        "n02128757": "snow leopard", "n02127052": "lynx",
    },
    "squawk": {
        "n01806143": "peacock", "n02007558": "flamingo", "n01818515": "macaw", "n02051845": "pelican",
        "n02056570": "king penguin", "n01614925": "bald eagle", "n01843383": "toucan", "n01518878": "ostrich",
        "n01860187": "black swan", "n01819313": "sulphur-crested cockatoo",
    },
    "yellow": {
        "n02206856": "bee", "n12057211": "yellow lady's slipper", "n07753592": "banana", "n07749582": "lemon",
        "n12144580": "corn", "n04146614": "school bus", "n03530642": "honeycomb", "n02129165": "lion",
        "n01773157": "black and gold garden spider", "n01531178": "goldfinch",
    },
}  # fmt: skip
"""WordNet id and name of every class, in the order of its labels."""


def read_imagenet(root: Path, which: str, fit: Fit) -> Splits:
    """Some classes; test = ImageNet's validation images.

    Args:
        root: Folder of ``train/`` and ``val/``, with a folder for every class in each, named by its WordNet id: ImageNet as it is kept
            for torchvision, or the archive of ImageNette or ImageWoof.
        which: A key of `SUBSETS`, or WordNet ids with commas between; labels follow their order.
        fit: How images become images of one size.
    Raises:
        FileNotFoundError: where there is no such folder.
        ValueError: for a class that is named twice or has no folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {str(root)!r}: give root= of ImageNet's train/ and val/")
    known = SUBSETS.get(which)
    ids = tuple(known or which.split(","))
    if known is None and not all(id.startswith("n") and id[1:].isdigit() for id in ids):
        raise ValueError(
            f"imagenet: is followed by one of {sorted(SUBSETS)} or by WordNet ids (n02086240,n02087394), got {which!r}"
        )
    splits = read_folder(root, fit, classes=ids)
    return splits._replace(class_names=tuple(known.values())) if known else splits
