"""Look at data before anything learns from it: what is broken, what leaks, and what a model could cheat by."""

from deeptune.auditing.audit import audit_data
from deeptune.auditing.findings import KINDS, AuditReport, Finding
from deeptune.auditing.request import AuditRequest

__all__ = ["KINDS", "AuditReport", "AuditRequest", "Finding", "audit_data"]
