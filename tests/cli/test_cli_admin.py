"""What administrators do: clusters, users, roles, and a whole policy file."""

import json
from pathlib import Path

import pytest
import yaml

from mk8s_cli.central import policy_file
from mk8s_cli.terminal import yaml_text
from mk8s_cli.terminal.errors import CliError
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import FakeCentral

RULES = [{"name": "dev-*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]
POLICY = {
    "roles": [{"name": "developer", "clusters": RULES}, {"name": "viewer", "clusters": []}],
    "users": [{"email": "Dev@example.com", "roles": ["developer"]}, {"email": "new@example.com"}],
}


@pytest.fixture(autouse=True)
def _administrator(logged_in: Result, central: FakeCentral) -> None:
    central.admin = True
    central.roles = [
        {"name": "admin", "clusters": [{"name": "*"}], "built_in": True},
        {"name": "viewer", "clusters": [{"labels": {"env": "dev", "a": "b"}}, 7]},
        {"name": "odd"},
    ]
    central.users = [
        {"email": "dev@example.com", "name": "Dev", "roles": ["viewer"], "has_password": False},
        {"email": "off@example.com", "name": "", "roles": [], "disabled": True},
    ]


def write(path: Path, document: object) -> str:
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_add_cluster_prints_what_the_agent_needs(run: Run, central: FakeCentral) -> None:
    out = run("admin", "clusters", "add", "new", "--label", "env=prod", "--label", "a=").out
    for fact in ("join-1", "sha256:00", central.url, "AGENT_TOKEN=join-1 mk8s-agent"):
        assert fact in out
    body = {"name": "new", "labels": {"env": "prod", "a": ""}}
    assert central.body("POST", "/clusters") == body
    told = json.loads(run("admin", "clusters", "add", "new", "-o", "json").out)
    assert told["join_token"] == "join-1"


def test_new_join_token(run: Run, central: FakeCentral) -> None:
    assert "join-1" in run("admin", "clusters", "join-token", "prod").out
    assert central.count("POST", "/clusters/prod/join-token") == 1
    assert run("admin", "clusters", "join-token", "../x").code == 1


def test_labels_are_set_and_removed(run: Run, central: FakeCentral) -> None:
    result = run("admin", "clusters", "labels", "prod", "team=a", "env-")
    assert result.out == "labels of prod: team=a\n"
    assert central.body("PUT", "/clusters/prod/labels") == {"labels": {"team": "a"}}
    assert run("admin", "clusters", "labels", "absent", "x=y").code == 0, "central decides"


@pytest.mark.parametrize("change", ["x", "=x", "-"])
def test_label_of_no_shape_is_wrong_usage(run: Run, change: str) -> None:
    assert run("admin", "clusters", "labels", "prod", "--", change).code == 2


def test_removal_asks_or_needs_yes(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = ("admin", "clusters", "remove", "prod")
    assert "add --yes" in run(*remove).line
    monkeypatch.setattr("mk8s_cli.commands.options.is_interactive", lambda: True)
    monkeypatch.setattr("mk8s_cli.commands.options.confirm", lambda _: False)
    assert run(*remove).line == "mk8s: nothing was changed"
    assert central.count("DELETE", "/clusters/prod") == 0
    monkeypatch.setattr("mk8s_cli.commands.options.confirm", lambda _: True)
    assert run(*remove).code == 0
    assert run(*remove, "--yes").out == "cluster prod is removed\n"
    assert central.count("DELETE", "/clusters/prod") == 2


def test_who_is_no_administrator_is_told(run: Run, central: FakeCentral) -> None:
    central.admin = False
    result = run("admin", "clusters", "add", "new")
    assert (result.code, result.line) == (1, "mk8s: only administrators may do this")


def test_admin_lists_clusters(run: Run) -> None:
    assert run("admin", "clusters", "list", "-o", "name").out.split() == ["dev", "prod"]


def test_a_list_of_several_pages_is_shown_whole(run: Run, central: FakeCentral) -> None:
    pages = [
        {"users": [{"email": "a@example.com"}], "next_cursor": "x+1"},
        {"users": [{"email": "b@example.com"}], "next_cursor": None},
    ]
    central.overrides["GET /users"] = [(200, page) for page in pages]
    shown = run("admin", "users", "list", "-o", "name").out.split()
    assert shown == ["a@example.com", "b@example.com"]


def test_attack_pages_without_end(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk8s_cli.central.api.MAX_ITEMS", 2)
    page = {"users": [{"email": "a@example.com"}], "next_cursor": "again"}
    central.overrides["GET /users"] = [(200, page)] * 3
    assert "too many pages" in run("admin", "users", "list").line


def test_lists_of_an_older_central_are_read(run: Run, central: FakeCentral) -> None:
    central.overrides["GET /users"] = [(200, {"items": [{"email": "a@example.com"}]})]
    assert run("admin", "users", "list", "-o", "name").out == "a@example.com\n"


def test_users_list(run: Run) -> None:
    rows = run("admin", "users", "list").out.splitlines()
    assert rows[1].split() == ["dev@example.com", "Dev", "viewer", "active,", "no", "password"]
    assert rows[2].split() == ["off@example.com", "-", "-", "disabled"]
    assert run("admin", "users", "list", "-o", "name").out.split()[0] == "dev@example.com"


def test_add_user(run: Run, central: FakeCentral) -> None:
    add = ("admin", "users", "add", "new@example.com", "--role", "viewer")
    assert run(*add, "--password-stdin", stdin="a long password\n").code == 0
    assert central.body("POST", "/users") == {
        "email": "new@example.com",
        "name": "",
        "roles": ["viewer"],
        "password": "a long password",
        "must_change_password": True,
    }
    assert run(*add, "--password-stdin", "--no-must-change", stdin="x\n").code == 0
    assert central.body("POST", "/users")["must_change_password"] is False
    assert json.loads(run(*add, "--no-password", "-o", "json").out)["roles"] == ["viewer"]
    assert "password" not in central.body("POST", "/users")
    assert run(*add, "--no-password", "--password-stdin").code == 2
    assert run(*add, "--no-password", "--generate-password").code == 2
    assert "--password-stdin" in run(*add).line
    assert "not an email address" in run("admin", "users", "add", "new").line


def test_two_passwords_that_differ_change_nothing(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["one", "two", "same", "same"])
    monkeypatch.setattr("mk8s_cli.terminal.screen.is_interactive", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: next(typed))
    words = ("admin", "users", "set-password", "dev@example.com")
    assert "differ" in run(*words).line
    assert central.count("PUT", "/users/dev@example.com/password") == 0
    assert run(*words).code == 0
    mine = {"password": "same", "must_change_password": False}
    assert central.body("PUT", "/users/dev@example.com/password") == mine
    assert run(*words[:-1], "other@example.com", "--password-stdin", stdin="first\n").code == 0
    theirs = {"password": "first", "must_change_password": True}
    assert central.body("PUT", "/users/other@example.com/password") == theirs


def test_generated_password_is_shown_once(run: Run, central: FakeCentral) -> None:
    add = ("admin", "users", "add", "new@example.com", "--generate-password")
    shown = run(*add).out.splitlines()[-1]
    made = central.body("POST", "/users")["password"]
    assert len(made) == 20
    assert shown == f"first password, shown this once: {made}"
    answer = json.loads(run(*add, "-o", "json").out)
    assert answer["password"] == central.body("POST", "/users")["password"] != made


def test_disable_and_enable(run: Run, central: FakeCentral) -> None:
    path = "/users/dev@example.com/disabled"
    assert run("admin", "users", "disable", "dev@example.com").out.endswith("is disabled\n")
    assert central.body("PUT", path) == {"disabled": True, "revoke_tokens": False}
    told = run("admin", "users", "disable", "dev@example.com", "--revoke-tokens").out
    assert "their service tokens are revoked" in told
    assert central.body("PUT", path) == {"disabled": True, "revoke_tokens": True}
    assert run("admin", "users", "enable", "dev@example.com").out.endswith("is enabled\n")
    assert central.body("PUT", path) == {"disabled": False}
    assert "not an email" in run("admin", "users", "disable", "dev").line


def test_users_who_must_change_their_password_are_marked(run: Run, central: FakeCentral) -> None:
    central.users = [{"email": "a@b.c", "has_password": True, "must_change_password": True}]
    assert run("admin", "users", "list").out.rstrip().endswith("active, must change password")


def test_set_roles_and_remove(run: Run, central: FakeCentral) -> None:
    path = "/users/dev@example.com"
    run("admin", "users", "set-roles", "dev@example.com", "a", "b")
    assert central.body("PUT", f"{path}/roles") == {"roles": ["a", "b"]}
    assert "none" in run("admin", "users", "set-roles", "dev@example.com").out
    assert run("admin", "users", "remove", "dev@example.com", "-y").code == 0
    assert central.count("DELETE", path) == 1


def test_address_cannot_leave_its_path_segment(run: Run, central: FakeCentral) -> None:
    assert run("admin", "users", "remove", "a/../b?c#d@example.com", "-y").code == 0
    assert central.calls[-1][0] == "DELETE"
    assert central.calls[-1][1] == "/users/a/../b?c#d@example.com", "decoded by the server"


def test_roles_list_get_apply_remove(run: Run, central: FakeCentral, tmp_path: Path) -> None:
    rows = [line.split() for line in run("admin", "roles", "list").out.splitlines()[1:]]
    assert rows == [
        ["admin", "*", "-", "yes"],
        ["viewer", "a=b+env=dev,?", "-", "no"],
        ["odd", "-", "-", "no"],
    ]
    shown = run("admin", "roles", "get", "admin").out
    assert yaml.safe_load(shown) == {"name": "admin", "clusters": [{"name": "*"}]}
    assert "mk8s admin roles list" in run("admin", "roles", "get", "absent").line
    path = tmp_path / "role.yaml"
    path.write_text(shown)
    assert run("admin", "roles", "apply", "-f", str(path)).out == "role admin is applied\n"
    assert central.body("PUT", "/roles/admin") == {"clusters": [{"name": "*"}]}
    assert "holds no role" in run("admin", "roles", "apply", "-f", write(path, {})).line
    assert run("admin", "roles", "remove", "viewer", "--yes").code == 0
    assert "not a role name" in run("admin", "roles", "remove", "a/b", "--yes").line


def test_limits_of_roles(run: Run, central: FakeCentral, tmp_path: Path) -> None:
    limits = {"streams": 100, "buffered": None}
    central.roles = [{"name": "viewer", "clusters": RULES, "limits": limits, "built_in": False}]
    assert run("admin", "roles", "list").out.split()[-3:] == ["dev-*", "streams=100", "no"]
    shown = run("admin", "roles", "get", "viewer").out
    role = {"name": "viewer", "clusters": RULES, "limits": {"streams": 100}}
    assert yaml.safe_load(shown) == role
    path = tmp_path / "role.yaml"
    path.write_text(shown)
    run("admin", "apply", "-f", str(path))
    assert central.body("POST", "/rbac")["roles"] == [role]
    more = {**role, "limits": {"streams": 100, "buffered": "64Mi"}}
    run("admin", "roles", "apply", "-f", write(path, more))
    assert central.body("PUT", "/roles/viewer") == {"clusters": RULES, "limits": more["limits"]}


def test_apply_shows_then_changes_only_what_differs(
    run: Run, central: FakeCentral, tmp_path: Path
) -> None:
    apply = ("admin", "apply", "-f", write(tmp_path / "rbac.yaml", POLICY))
    changes = [
        "+ role developer",
        "~ role viewer",
        "~ user dev@example.com (roles: viewer -> developer)",
        "+ user new@example.com (roles: none; no password)",
    ]
    dry = run(*apply, "--dry-run").out.splitlines()
    assert dry == [f"{change} (dry run)" for change in changes]
    assert central.body("POST", "/rbac")["dry_run"] is True
    assert run(*apply).out.splitlines() == changes
    sent = central.body("POST", "/rbac")
    assert sent["dry_run"] is False
    assert {"name": "developer", "clusters": RULES} in sent["roles"]
    assert {"email": "new@example.com", "roles": []} in sent["users"]
    assert not [call for call in central.calls if call[0] == "PUT"], "one call: all or nothing"
    central.roles = POLICY["roles"]
    central.users = [
        {"email": "dev@example.com", "roles": ["developer"]},
        {"email": "new@example.com", "roles": []},
    ]
    assert run(*apply).out == "nothing to change\n"


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_apply_and_its_dry_run_are_refused_by_central(
    run: Run, central: FakeCentral, tmp_path: Path, words: tuple[str, ...]
) -> None:
    path = write(tmp_path / "rbac.yaml", POLICY)
    central.overrides["POST /rbac"] = [
        (409, {"error": {"code": 409, "reason": "Conflict", "message": "the last admin"}})
    ]
    result = run("admin", "apply", "-f", path, *words)
    assert (result.code, result.out, result.line) == (1, "", "mk8s: the last admin")


def test_a_strange_answer_to_apply_shows_nothing(
    run: Run, central: FakeCentral, tmp_path: Path
) -> None:
    path = write(tmp_path / "rbac.yaml", POLICY)
    odd = [7, {"kind": "role", "name": "a\x1b[2J", "action": "created"}, {"action": "x"}]
    central.overrides["POST /rbac"] = [(200, {"items": 7}), (200, {"items": odd})]
    assert run("admin", "apply", "-f", path).out == "nothing to change\n"
    assert run("admin", "apply", "-f", path).out == "+ role a\\x1b[2J\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("roles: [{name: a, clusters: []}, {name: a, clusters: []}]", "the role a is there twice"),
        ("users: [{email: a@b}, {email: A@b}]", "the user a@b is there twice"),
        ("roles: [", "not valid YAML in line"),
        (
            "roles: []\nusers: []\nroles: []",
            "not valid YAML in line 3: the key 'roles' is there twice",
        ),
        ("a: &a [*a]", "too many values"),
        ("[" * 400, "not valid YAML"),
        ("- a", "expected the keys roles, users"),
        ("rolls: []", "expected the keys roles, users"),
        ("roles: {}\nusers: {a: b}", "users must be a list"),
        ("roles: [a]", "roles[0].name"),
        ("roles: [{name: a/b}]", "roles[0].name"),
        ("roles: [{name: a, clusters: x}]", "roles[0].clusters must be a list"),
        ("roles: [{name: a, clusters: [], verbs: []}]", "roles[0]: unknown key 'verbs'"),
        ("roles: [{name: a, clusters: [], limits: 7}]", "roles[0].limits must be a mapping"),
        ("users: [{email: x}]", "users[0].email"),
        ("users: [{email: a@b, roles: x}]", "users[0].roles"),
        ("users: [{email: a@b, roles: [7]}]", "users[0].roles"),
        ("users: [{email: a@b, role: x}]", "users[0]: unknown key 'role'"),
    ],
)
def test_malformed_file_names_the_field(run: Run, tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "rbac.yaml"
    path.write_text(text)
    result = run("admin", "apply", "-f", str(path))
    assert result.code == 1
    assert str(path) in result.line
    assert reason in result.line


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="cannot read"):
        policy_file.load(tmp_path)
    assert policy_file.load(_empty(tmp_path)).roles == {}


def _empty(folder: Path) -> Path:
    path = folder / "empty.yaml"
    path.write_text("roles:\nusers:\n")
    return path


def agents(central: FakeCentral) -> None:
    item = {
        "id": "a1",
        "name": "a1",
        "cluster": "prod",
        "status": "connected",
        "tunnels": 2,
        "reason": "",
        "joined_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-02T00:00:00.5Z",
    }
    other = {**item, "id": "b2", "name": "b2", "cluster": "dev"}
    central.overrides["GET /agents"] = [(200, {"items": [item, other]})] * 3
    central.overrides["POST /agents/a1/revoke"] = [(200, {**item, "status": "revoked"})] * 3


def test_agents_are_listed(run: Run, central: FakeCentral) -> None:
    agents(central)
    rows = run("admin", "agents", "list", "--cluster", "prod").out.splitlines()
    assert len(rows) == 2
    shown = ["a1", "prod", "connected", "2", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "-"]
    assert rows[1].split() == shown
    assert run("admin", "agents", "list", "-o", "name").out.split() == ["a1", "b2"]
    assert '"tunnels": 2' in run("admin", "agents", "list", "-o", "json").out


def test_an_agent_is_revoked_after_a_question(run: Run, central: FakeCentral) -> None:
    agents(central)
    revoke = ("admin", "agents", "revoke", "a1")
    assert "add --yes" in run(*revoke).line
    assert central.count("POST", "/agents/a1/revoke") == 0
    told = run(*revoke, "-y").out
    assert "agent a1 of cluster prod is revoked" in told
    assert "mk8s admin clusters join-token prod" in told
    assert run(*revoke, "-y", "-o", "name").out == "a1\n"
    assert "status: revoked" in run(*revoke, "-y", "-o", "yaml").out
    assert run("admin", "agents", "revoke", "../users", "-y").code == 1


def test_an_alert_of_a_cluster_is_told_beside_the_list(run: Run, central: FakeCentral) -> None:
    central.clusters[1]["alert"] = "agent a1 was kept out\x1b[31m"
    listed = run("admin", "clusters", "list")
    assert "kept out" not in listed.out
    assert "prod: agent a1 was kept out" in listed.err
    assert "\x1b" not in listed.err


ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "mk8s:role:dev"},
    "rules": [],
}
NOTE = {"role": "dev", "rule": "role dev, rule 1", "kind": "deny", "text": "denies\x1b[31m it"}


def rbac(central: FakeCentral, *items: object, notes: object = (NOTE,)) -> None:
    central.admin = True
    answer = {"cluster": "prod", "items": list(items), "notes": notes}
    central.overrides["GET /clusters/prod/rbac"] = [(200, answer)]


def test_the_roles_are_printed_as_rbac_of_a_cluster(run: Run, central: FakeCentral) -> None:
    rbac(central, ROLE, {**ROLE, "kind": "RoleBinding"})
    printed = run("admin", "cluster-rbac", "--cluster", "prod")
    assert [one["kind"] for one in yaml.safe_load_all(printed.out)] == [
        "ClusterRole", "RoleBinding",
    ]  # fmt: skip
    assert printed.out.startswith("# role dev, rule 1: denies\\x1b[31m it\n---\n")
    assert printed.err == "note: role dev, rule 1: denies\\x1b[31m it\n"
    rbac(central, ROLE, notes=[])
    listed = json.loads(run("admin", "cluster-rbac", "--cluster", "prod", "-o", "json").out)
    assert (listed["kind"], listed["items"]) == ("List", [ROLE])


@pytest.mark.parametrize(
    "item",
    [{**ROLE, "kind": "Secret"}, {**ROLE, "apiVersion": "v1"}, "ClusterRole", {}],
)
def test_attack_central_hands_something_else_to_a_mighty_kubectl(
    run: Run, central: FakeCentral, item: object
) -> None:
    rbac(central, ROLE, item)
    printed = run("admin", "cluster-rbac", "--cluster", "prod")
    assert (printed.code, printed.out) == (1, "")
    assert "something else than RBAC" in printed.line


@pytest.mark.parametrize("agent", ["mk8s", ":", "a/b:c", "mk8s:a&b", "mk8s:"])
def test_an_agent_that_is_no_service_account(run: Run, central: FakeCentral, agent: str) -> None:
    printed = run("admin", "cluster-rbac", "--cluster", "prod", "--agent", agent)
    assert (printed.code, "write NAMESPACE:NAME" in printed.line) == (1, True)
    assert central.count("GET", "/clusters/prod/rbac") == 0


KEYS = [
    {
        "id": "k-1",
        "name": "k-1",
        "status": "signing",
        "created_at": "2027-01-01T00:00:00Z",
        "signs_from": "2027-01-01T00:00:00Z",
        "verifies_until": None,
        "retired_at": None,
    }
]


def test_keys_are_listed(run: Run, central: FakeCentral) -> None:
    central.overrides["GET /keys"] = [(200, {"items": KEYS})] * 2
    out = run("admin", "keys", "list").out
    assert out.splitlines()[1].split()[:2] == ["k-1", "signing"]
    central.overrides["GET /keys"] = [(200, {"items": KEYS})]
    assert run("admin", "keys", "list", "-o", "name").out == "k-1\n"


def test_keys_are_rotated_and_retired(run: Run, central: FakeCentral) -> None:
    assert "add --yes" in run("admin", "keys", "rotate").line
    central.overrides["POST /keys"] = [(201, KEYS[0])]
    assert run("admin", "keys", "rotate", "-y").out == (
        "signing key k-1 is published and signs from 2027-01-01T00:00:00Z\n"
    )
    assert "add --yes" in run("admin", "keys", "retire", "k-1").line
    assert central.count("POST", "/keys/k-1/retire") == 0
    for form, shown in (("table", "signing key k-1 is retired\n"), ("name", "k-1\n")):
        central.overrides["POST /keys/k-1/retire"] = [(200, KEYS[0])]
        assert run("admin", "keys", "retire", "k-1", "-y", "-o", form).out == shown
    central.overrides["POST /keys/k-1/retire"] = [(200, KEYS[0])]
    assert json.loads(run("admin", "keys", "retire", "k-1", "-y", "-o", "json").out) == KEYS[0]
    assert "is no signing key" in run("admin", "keys", "retire", "../x", "-y").line


def test_attack_a_policy_file_is_never_applied_in_part(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"roles: []\n#" + b"x" * yaml_text.MAX_BYTES)
    with pytest.raises(CliError, match="is larger than 16 MiB"):
        policy_file.load(path)


def test_a_token_that_is_refused_before_its_end_is_replaced_once(
    run: Run, central: FakeCentral
) -> None:
    refused = (401, {"error": {"code": 401, "reason": "x", "message": "unknown signing key"}})
    assert run("admin", "keys", "list", "-o", "name").code != 0, "fills the cache"
    central.overrides["GET /keys"] = [refused, (200, {"items": KEYS})]
    before = central.count("POST", "/auth/refresh")
    assert run("admin", "keys", "list", "-o", "name").out == "k-1\n"
    assert central.count("POST", "/auth/refresh") == before + 1
    central.overrides["GET /keys"] = [refused, refused]
    assert "unknown signing key" in run("admin", "keys", "list").line
    assert central.count("POST", "/auth/refresh") == before + 2


AUTHORITIES = {
    "authorities": [
        {
            "purpose": "server",
            "pin": "sha256:ab",
            "status": "signing",
            "expires_at": "2036-01-02T03:04:05Z",
        }
    ],
    "rotation": None,
}
WAITING = {
    "started_at": "2026-01-02T03:04:05Z",
    "signs_from": "2026-01-02T03:06:00Z",
    "waiting": 120,
    "waiting_agents": [
        {
            "cluster": "prod",
            "id": "4f1d",
            "reason": "its certificate is old",
            "expires_at": "2026-01-03T03:04:05Z",
        }
    ],
}


def test_authorities_are_shown_with_the_agents_that_a_rotation_waits_for(
    run: Run, central: FakeCentral
) -> None:
    moved = WAITING | {"waiting": 0, "waiting_agents": []}
    told = [AUTHORITIES, *(AUTHORITIES | {"rotation": it} for it in (WAITING, moved, WAITING))]
    told.append(AUTHORITIES | {"rotation": WAITING | {"waiting": "many"}})
    central.overrides["GET /ca"] = [(200, it) for it in told]
    out = run("admin", "ca", "show").out
    assert "sha256:ab" in out
    assert "rotation" not in out
    out = run("admin", "ca", "show").out
    assert "agents that have not moved: 120" in out
    assert "its certificate is old" in out
    assert "it ends with: mk8s admin ca retire" in run("admin", "ca", "show").out
    assert json.loads(run("admin", "ca", "show", "-o", "json").out)["rotation"]["waiting"] == 120
    assert "have not moved: 1" in run("admin", "ca", "show").out


def test_authorities_are_rotated_and_retired(run: Run, central: FakeCentral) -> None:
    for words in (("rotate",), ("retire",), ("retire", "--force")):
        assert "add --yes" in run("admin", "ca", *words).line
    central.overrides["POST /ca/rotate"] = [(200, AUTHORITIES | {"rotation": WAITING})]
    assert "a rotation is under way" in run("admin", "ca", "rotate", "--yes").out
    refusal = {"title": "Conflict", "status": 409, "detail": "1 agents have not moved"}
    central.overrides["POST /ca/retire"] = [(409, refusal), (200, AUTHORITIES)]
    assert "1 agents have not moved" in run("admin", "ca", "retire", "--yes").line
    assert central.body("POST", "/ca/retire") == {"force": False}
    assert "sha256:ab" in run("admin", "ca", "retire", "--yes", "--force").out
    assert central.body("POST", "/ca/retire") == {"force": True}
