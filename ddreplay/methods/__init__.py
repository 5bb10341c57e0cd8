"""One function per paper, each a composition of the parts."""

from ddreplay.methods.alignment import cafe
from ddreplay.methods.best_of import BestOf
from ddreplay.methods.distribution import ddm, dm, idm, m3d, ncfm
from ddreplay.methods.gradient import dc, dcc, dsa, dsac
from ddreplay.methods.multi_formation import dream, idc
from ddreplay.methods.practical import Practical, practical
from ddreplay.methods.prefix_order import PrefixOrdered, prefix_ordered
from ddreplay.methods.published_settings import IDM_SETTINGS, MTT_SETTINGS, idm_settings
from ddreplay.methods.regression import frepo, kip
from ddreplay.methods.trajectory import mtt, tesla
from ddreplay.methods.unrolled import bptt, dd, ld
from ddreplay.methods.whitened import Whitened

__all__ = [
    "BestOf",
    "IDM_SETTINGS",
    "Practical",
    "PrefixOrdered",
    "practical",
    "prefix_ordered",
    "MTT_SETTINGS",
    "Whitened",
    "bptt",
    "cafe",
    "dc",
    "dcc",
    "dd",
    "ddm",
    "dm",
    "dream",
    "dsa",
    "dsac",
    "frepo",
    "idc",
    "idm",
    "idm_settings",
    "kip",
    "ld",
    "m3d",
    "mtt",
    "ncfm",
    "tesla",
]
