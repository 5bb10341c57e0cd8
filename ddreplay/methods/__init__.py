"""One function per paper, each a composition of the parts."""

from ddreplay.methods.distribution import ddm, dm, idm, m3d, ncfm
from ddreplay.methods.formation import dream, idc
from ddreplay.methods.gradient import dc, dcc, dsa, dsac
from ddreplay.methods.idm_settings import IDM_SETTINGS, idm_settings
from ddreplay.methods.trajectory import MTT_SETTINGS, mtt, tesla
from ddreplay.methods.unrolled import bptt, dd
from ddreplay.methods.zca import whitened

__all__ = [
    "IDM_SETTINGS",
    "MTT_SETTINGS",
    "bptt",
    "dc",
    "dcc",
    "dd",
    "ddm",
    "dm",
    "dsa",
    "dsac",
    "dream",
    "idc",
    "idm",
    "idm_settings",
    "m3d",
    "mtt",
    "ncfm",
    "tesla",
    "whitened",
]
