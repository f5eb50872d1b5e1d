"""CLIENT: braintrust.  load_prompt / load_parameters / prompt versions, over the bundled REST client."""

import os
import tempfile
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ.setdefault("BRAINTRUST_APP_URL", BASE)
os.environ.setdefault("BRAINTRUST_API_URL", BASE)
os.environ["BRAINTRUST_PROMPT_CACHE_DIR"] = tempfile.mkdtemp()
os.environ["BRAINTRUST_PARAMETERS_CACHE_DIR"] = tempfile.mkdtemp()
import braintrust
from braintrust.api import BraintrustClient, BraintrustHTTPError

tag = uuid.uuid4().hex[:8]
with BraintrustClient() as c:
    org = c.auth.login().organization
    p = c.openapi.projects.post_project(body={"name": f"s13-{tag}", "org_name": org.name})
    mk = lambda d, txt: {
        "project_id": p["id"],
        "name": "Greeting",
        "slug": "greet",
        "description": d,
        "tags": ["x"],
        "prompt_data": {
            "prompt": {"type": "chat", "messages": [{"role": "user", "content": txt}]},
            "options": {"model": "m"},
        },
    }
    a = c.openapi.prompts.post_prompt(body=mk("one", "Hello {{name}}"))
    v1 = a["_xact_id"]
    assert c.openapi.prompts.post_prompt(body=mk("ignored", "zzz"))["id"] == a["id"], (
        "POST with an existing slug returns the existing prompt"
    )
    b = c.openapi.prompts.put_prompt(body=mk("two", "Bye {{name}}"))
    assert b["id"] == a["id"] and b["description"] == "two" and int(b["_xact_id"]) > int(v1)
    by_slug = braintrust.load_prompt(project=p["name"], slug="greet")
    assert by_slug.build(name="Ada")["messages"][0]["content"] == "Bye Ada" and by_slug.id == a["id"]
    old = braintrust.load_prompt(id=a["id"], version=v1)
    assert old.build(name="Ada")["messages"][0]["content"] == "Hello Ada", "id + version must return that version"
    braintrust.login()
    assert len(braintrust.logger.get_prompt_versions(p["id"], a["id"])) == 2, "POST /btql project_prompts audit_log"
    try:
        braintrust.load_prompt(project=p["name"], slug="nope").id
        raise SystemExit("missing prompt must raise")
    except ValueError as e:
        assert "not found" in str(e)
    f = c.openapi.functions.post_function(
        body={
            "project_id": p["id"],
            "name": "Params",
            "slug": "params",
            "function_type": "parameters",
            "function_data": {
                "type": "parameters",
                "data": {"k": 1},
                "__schema": {"type": "object", "properties": {"k": {"type": "number"}}},
            },
        }
    )
    assert braintrust.load_parameters(project_id=p["id"], slug="params").data == {"k": 1}
    assert braintrust.load_parameters(id=f["id"]).id == f["id"]
    d = c.openapi.prompts.delete_prompt_id(a["id"])
    assert d["id"] == a["id"]
    assert c.openapi.prompts.get_prompt(project_id=p["id"], slug="greet")["objects"] == []
    try:
        c.openapi.prompts.get_prompt_id(a["id"])
        raise SystemExit("deleted prompt must not be readable")
    except BraintrustHTTPError as e:
        assert e.status_code in (400, 403, 404), e.status_code
print("OK s13")
