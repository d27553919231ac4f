"""What a service profile says of security incidents."""

from datetime import timedelta

from pydantic import Field

from tasks.records.section import Section


class IncidentCare(Section):
    """What is done when a breach is suspected, beside the rotation of credentials."""

    debug_variables: dict[str, str] = Field(
        default={},
        description="Variables of the env file that make the application log more, and their values",
        examples=[{"DEBUG_MODE": "true", "AUDIT_DEBUG": "true"}],
    )
    look_back: timedelta = Field(
        default=timedelta(days=1),
        gt=timedelta(0),
        description="So far it is looked back unless a person says since when (ISO 8601 duration)",
        examples=["P1D"],
    )
