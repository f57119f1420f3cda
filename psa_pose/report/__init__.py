"""A run as a page of HTML, from the files that it left."""

from psa_pose.report.page import write_report

__all__ = ['write_report']
