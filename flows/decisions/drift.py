"""Does a plan that was shown still rest on what it rested on? Every runbook asks before it applies one."""

from tasks.records.runbook_plan import RunbookPlan


def find_drift(plan: RunbookPlan, fresh: RunbookPlan) -> str | None:
    """Given the plan that was shown and one made of what is there now, say what has changed in between."""
    changed = [
        f"{name} was {plan.rests_on.get(name, 'not there')} and is {fresh.rests_on.get(name, 'not there')}"
        for name in sorted(plan.rests_on.keys() | fresh.rests_on.keys())
        if plan.rests_on.get(name) != fresh.rests_on.get(name)
    ]
    if fresh.refusal is not None:
        return f"What the plan rests on has changed: {fresh.refusal}"
    if not changed:
        return None
    return (
        f"What the plan rests on has changed since it was shown: {'; '.join(changed)}. Nothing was changed: "
        "start the runbook again and look at the new plan."
    )
