"""One function per paper, each a composition of the parts."""

from ddreplay.methods.distribution import ddm, dm, idm, m3d, ncfm
from ddreplay.methods.gradient import dc, dcc, dsa, dsac
from ddreplay.methods.idm_settings import IDM_SETTINGS, idm_settings

__all__ = ["IDM_SETTINGS", "dc", "dcc", "ddm", "dm", "dsa", "dsac", "idm", "idm_settings", "m3d", "ncfm"]
