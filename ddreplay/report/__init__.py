"""One page about condensed sets, for people who did not make them."""

from ddreplay.report.findings import Findings, SetFindings, look_into
from ddreplay.report.page import write_page
from ddreplay.report.template import check_available

__all__ = ["Findings", "SetFindings", "check_available", "look_into", "write_page"]
