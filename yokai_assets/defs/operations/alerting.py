"""Telling a chat or a pager of failures: one JSON message to a URL. The URL is a secret and appears in no message."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic import SecretStr

from yokai_assets.gallery.failures import FailureRecord

_TIMEOUT_SECONDS = 10
_SHOWN = 5


def send_alert(webhook: SecretStr, series: str, run_id: str, failures: Sequence[FailureRecord]) -> str | None:
    """Send what failed. Returns why it could not be sent, without the URL; None where it was.

    The message has `text` for people (Slack, Mattermost, Discord's `/slack`, ntfy) and `failures` for programs.
    """
    lines = [f"{failure.partition or series}: {failure.step}: {failure.reason[:300]}" for failure in failures[:_SHOWN]]
    if len(failures) > _SHOWN:
        lines.append(f"and {len(failures) - _SHOWN} more")
    body = {
        "text": f"yokai {series}: a run failed\n" + "\n".join(lines),
        "series": series,
        "run_id": run_id,
        "failures": [failure.model_dump(mode="json") for failure in failures],
    }
    url = webhook.get_secret_value()
    if urlsplit(url).scheme not in ("http", "https"):
        return "the failure webhook is no http(s) URL: nothing was sent. Mend `operations.failure_webhook`."
    request = urllib.request.Request(  # noqa: S310 - http(s) only, see above
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        return f"the failure webhook answered {error.code}: nothing was told. Check `operations.failure_webhook`."
    except (OSError, ValueError) as error:
        return f"the failure webhook cannot be reached ({type(error).__name__}). Check `operations.failure_webhook`."
