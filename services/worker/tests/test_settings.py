"""What the worker refuses to start with."""

import pytest
from pydantic import ValidationError

from worker.settings import Settings


def test_an_empty_webhook_is_none(settings: Settings) -> None:
    assert Settings.model_validate(settings.model_dump() | {"slack_webhook_url": ""}).slack_webhook_url is None


def test_a_task_may_not_outlive_the_visibility_timeout(settings: Settings) -> None:
    limits = {"job_seconds": 3600, "visibility_timeout_seconds": 3600}
    with pytest.raises(ValidationError, match="visibility_timeout_seconds"):
        Settings.model_validate(settings.model_dump() | limits)
