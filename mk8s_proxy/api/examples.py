"""Examples for the OpenAPI document: what a reader may copy, and tools may begin with."""

from typing import Any, Final

from mk8s_proxy.api import (
    audit_schemas,
    ca_schemas,
    delegation_schemas,
    exec_schemas,
    federation_schemas,
    group_schemas,
    list_schemas,
    lock_schemas,
    login_schemas,
    policy_schemas,
    schemas,
    sso_schemas,
    token_schemas,
)
from mk8s_proxy.api.schemas import Model

REQUEST_ID: Final = "0198b0c2-7a10-7c11-9d0a-5d2f1c3b4a59"
_MOMENT: Final = "2026-01-31T08:00:00Z"
_LOGIN_ID: Final = "1b7c2d0e-3f6a-4d0b-8a51-90c4f5b1a7de"
_USER_ID: Final = "6f1c9f0e-6f0b-4c58-9a36-5a4c1f9d2b10"
_RULES: Final[list[dict[str, Any]]] = [
    {
        "name": "dev-*",
        "namespaces": ["*"],
        "verbs": ["get", "list", "logs", "exec"],
        "resources": ["pods", "services", "deployments"],
    }
]
_TOKEN: Final = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"
_REFRESH: Final = "a refresh token"
_USER: Final[dict[str, Any]] = {
    "id": _USER_ID,
    "email": "dev@example.com",
    "name": "Dev",
    "roles": ["developer"],
    "disabled": False,
    "has_password": True,
    "must_change_password": False,
    "created_at": _MOMENT,
}
_CLUSTER: Final[dict[str, Any]] = {
    "id": "0b0c8f52-20a4-4c55-8a45-0f8a6f0d9d11",
    "name": "prod",
    "labels": {"env": "prod"},
    "status": "connected",
    "agents": 2,
    "agent_version": "0.1.0",
    "kubernetes_version": "v1.37.2",
    "last_seen": _MOMENT,
    "created_at": _MOMENT,
    "alert": "",
    "verbs": ["get", "list"],
    "namespace": "",
    "server": "https://mk8s.example.com/k8s/prod",
    "context": "prod",
}
_ROLE: Final[dict[str, Any]] = {
    "name": "developer",
    "clusters": _RULES,
    "limits": {"streams": None, "buffered": None},
    "built_in": False,
}
_CLAIMS: Final = {"repository": ["acme/shop"], "ref": ["refs/heads/main", "refs/tags/v*"]}
_RULE: Final[dict[str, Any]] = {
    "name": "deploy",
    "issuer": "github",
    "claims": _CLAIMS,
    "roles": ["developer"],
    "seconds": 3600,
    "created_at": _MOMENT,
}
_GROUP: Final[dict[str, Any]] = {
    "name": "devs",
    "roles": ["developer"],
    "members": ["dev@example.com"],
    "created_at": _MOMENT,
}
_LOCK: Final[dict[str, Any]] = {
    "id": _USER_ID,
    "kind": "user",
    "target": "dev@example.com",
    "reason": "laptop lost",
    "created_by": "admin@example.com",
    "created_at": _MOMENT,
    "expires_at": "2026-02-01T08:00:00Z",
}
_LOGIN: Final[dict[str, Any]] = {
    "token": _TOKEN,
    "access_token": _TOKEN,
    "token_type": "Bearer",
    "expires_in": 900,
    "expires_at": _MOMENT,
    "cluster": None,
    "refresh_token": _REFRESH,
    "refresh_expires_in": 43200,
    "user": {key: _USER[key] for key in ("id", "email", "name", "roles")},
}
_REQUEST: Final[dict[str, Any]] = {
    "id": REQUEST_ID,
    "number": 4711,
    "created_at": _MOMENT,
    "user": "dev@example.com",
    "user_id": _USER_ID,
    "cluster": "prod",
    "command": "get pods -n shop",
    "status": "success",
    "code": 200,
    "duration_ms": 12.5,
    "verb": "list",
    "action": "list",
    "api_group": "",
    "resource": "pods",
    "subresource": "",
    "namespace": "shop",
    "name": "",
    "denied": False,
    "source_ip": "192.0.2.1",
    "delegate": "",
    "event": None,
}

EXAMPLES: Final[dict[type[Model], dict[str, Any]]] = {
    schemas.LoginRequest: {"email": "dev@example.com", "password": "correct horse battery"},
    schemas.RefreshRequest: {"refresh_token": _REFRESH},
    schemas.LogoutRequest: {"refresh_token": _REFRESH},
    schemas.ClusterTokenRequest: {"cluster": "prod"},
    schemas.TokenResponse: _LOGIN,
    sso_schemas.AuthMethods: {
        "passwords": True,
        "issuers": [{"name": "acme", "title": "Acme"}],
        "device": True,
        "federation": [{"name": "github", "audience": "mk8s"}],
    },
    sso_schemas.SsoTokenRequest: {
        "code": "oYDN1ahZ-S7mXRpEQ23wtqtcBg-fMm60rfPU9ZRwGLM",
        "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "redirect_uri": "http://127.0.0.1:51234/callback",
    },
    sso_schemas.DeviceRequest: {"host": "build-7"},
    sso_schemas.LinkRequest: {"issuer": "acme"},
    sso_schemas.UserIdentityList: {
        "identities": [{"issuer": "acme", "subject": "f:1:ann", "last_used": _MOMENT}]
    },
    delegation_schemas.DelegationRequest: {
        "seconds": 1800,
        "clusters": ["dev-*"],
        "namespaces": ["shop"],
        "verbs": ["get", "list", "watch", "logs"],
        "resources": ["pods", "deployments.apps"],
        "label": "assistant",
    },
    schemas.CreateClusterRequest: {"name": "staging", "labels": {"env": "staging"}},
    schemas.LabelsRequest: {"labels": {"env": "prod"}},
    schemas.Cluster: _CLUSTER,
    list_schemas.ClusterList: {"clusters": [_CLUSTER], "next_cursor": None},
    schemas.CreateUserRequest: {
        "email": "new@example.com",
        "name": "New",
        "password": "correct horse battery",
        "roles": ["developer"],
    },
    schemas.UserRolesRequest: {"roles": ["developer"]},
    schemas.PasswordRequest: {"password": "another horse battery"},
    schemas.DisabledRequest: {"disabled": True},
    schemas.User: _USER,
    list_schemas.UserList: {"users": [_USER], "next_cursor": None},
    policy_schemas.RoleRequest: {"clusters": _RULES},
    policy_schemas.Role: _ROLE,
    list_schemas.RoleList: {"roles": [_ROLE], "next_cursor": None},
    federation_schemas.FederationRuleRequest: {
        "issuer": "github",
        "claims": _CLAIMS,
        "roles": ["developer"],
    },
    federation_schemas.FederationRule: _RULE,
    federation_schemas.FederationRuleList: {"rules": [_RULE]},
    federation_schemas.TokenExchangeRequest: {
        "grant_type": federation_schemas.TOKEN_EXCHANGE,
        "subject_token": _TOKEN,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    },
    group_schemas.GroupRolesRequest: {"roles": ["developer"]},
    group_schemas.GroupMembersRequest: {"members": ["dev@example.com"]},
    group_schemas.Group: _GROUP,
    group_schemas.GroupList: {"groups": [_GROUP], "next_cursor": None},
    policy_schemas.RbacRequest: {
        "roles": [{"name": "developer", "clusters": _RULES}],
        "users": [{"email": "dev@example.com", "roles": ["developer"]}],
        "groups": [{"name": "acme:devs", "roles": ["developer"]}],
        "dry_run": True,
    },
    policy_schemas.RbacChanges: {
        "changes": [
            {"kind": "role", "name": "developer", "action": "unchanged", "detail": ""},
        ],
        "dry_run": True,
    },
    token_schemas.CreateTokenRequest: {
        "name": "ci",
        "roles": ["developer"],
        "clusters": ["dev-*"],
        "expires_in": 7776000,
    },
    login_schemas.LoginList: {
        "logins": [
            {
                "id": _LOGIN_ID,
                "user": "dev@example.com",
                "source": "password",
                "issuer": "",
                "client": "mk8s-cli",
                "address": "192.0.2.1",
                "label": "",
                "claims": {},
                "status": "active",
                "opened_at": _MOMENT,
                "last_seen": _MOMENT,
                "ends_at": _MOMENT,
                "ended_at": None,
                "ended_why": "",
                "parent": "",
                "narrowing": None,
                "current": True,
            }
        ],
        "next_cursor": None,
    },
    token_schemas.RotateTokenRequest: {"overlap": 3600},
    lock_schemas.CreateLockRequest: {
        "kind": "user",
        "target": "dev@example.com",
        "reason": "laptop lost",
        "expires_in": 86400,
    },
    lock_schemas.Lock: _LOCK,
    lock_schemas.LockList: {"locks": [_LOCK], "next_cursor": None},
    exec_schemas.ExecRequest: {"command": ["get", "pods", "-n", "default"]},
    exec_schemas.ExecResponse: {
        "output": "No resources found in default namespace.\n",
        "errors": "",
        "exit_code": 0,
        "truncated": False,
        "ended_by": "exit",
        "duration_ms": 310.5,
        "id": REQUEST_ID,
    },
    ca_schemas.Retirement: {"force": False},
    audit_schemas.AuditEntry: _REQUEST,
    audit_schemas.AuditPage: {"audit": [_REQUEST], "next_cursor": None, "newest": 4711},
}
"""By the model of a body."""

PATH_EXAMPLES: Final = {
    "/users/{id}": "dev@example.com",
    "/clusters/{id}": "prod",
    "/agents/{id}": "4f1d2c",
    "/roles/{name}": "developer",
    "/groups/{name}": "acme:devs",
    "/federation/rules": "deploy",
    "/auth/sso": "acme",
    "/keys/{id}": "k1",
    "/locks/{id}": _USER_ID,
    "/audit/{id}": REQUEST_ID,
    "/tokens/{id}": "ci",
    "/logins/{id}": _LOGIN_ID,
}
"""By the beginning of a path."""

QUERY_EXAMPLES: Final[dict[str, Any]] = {
    "label": "env=prod",
    "since": _MOMENT,
    "resource": "pods",
    "limit": 50,
}
"""By the name of a parameter."""
