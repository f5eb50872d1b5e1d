"""CLIENT: braintrust.  Login, api_url discovery (only APP_URL set), bad key, wrong org, silent data loss on /logs3 errors."""

import os
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ["BRAINTRUST_APP_URL"] = BASE
os.environ.pop("BRAINTRUST_API_URL", None)  # the server must hand out its own api_url in org_info
import braintrust
from braintrust.logger import login_to_state

st = login_to_state()
assert st.api_url and st.org_id and st.org_name, (st.api_url, st.org_id)
print("api_url from org_info:", st.api_url)
e = braintrust.init(project=f"s16-{uuid.uuid4().hex[:8]}", experiment="x")
e.log(input=1, output=1, scores={})
e.flush()
assert len(list(e)) == 1
try:
    login_to_state(api_key="sk-wrong-key")
    raise SystemExit("bad key accepted")
except ValueError as x:
    assert "Invalid API key" in str(x) and "401" in str(x), x
try:
    login_to_state(org_name="no-such-org")
    raise SystemExit("wrong org accepted")
except ValueError as x:
    assert "not found" in str(x), x
assert braintrust.logger.user_info().get("id"), "GET /ping"
print("OK s16")
