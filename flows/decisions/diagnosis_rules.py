"""All causes that the diagnosis knows. To add one is to add a rule to one of these tables, and a test."""

from flows.decisions import (
    diagnosis_answers,
    diagnosis_application,
    diagnosis_database,
    diagnosis_host,
    diagnosis_outside,
    diagnosis_port,
    diagnosis_process,
    diagnosis_sessions,
    diagnosis_time,
)
from flows.decisions.diagnosis_reading import Layer, Rule

RULES: tuple[Rule, ...] = (
    *diagnosis_host.RULES,
    *diagnosis_application.RULES,
    *diagnosis_port.RULES,
    *diagnosis_database.RULES,
    *diagnosis_sessions.RULES,
    *diagnosis_process.RULES,
    *diagnosis_answers.RULES,
    *diagnosis_outside.RULES,
    *diagnosis_time.RULES,
)

LAYERS: tuple[Layer, ...] = ("host", "files", "configuration", "port", "database", "process", "outside")
