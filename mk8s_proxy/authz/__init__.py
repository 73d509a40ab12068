"""Authorization: may this user do this on this cluster? Pure: no input, output, clock or database.

Read in this order:

- `attributes`: the question (`Attributes`, made from a RequestInfo by `required_attributes`) and
  the answer (`Decision`, which denies unless somebody says otherwise).
- `policy`: the policy language, as written in YAML and kept in the database, and its validation.
- `scopes`: which resources of Kubernetes live outside namespaces, as each cluster says.
- `compile`: rules made ready for matching; `access`: what a set of roles allows, by their index.
- `visibility`: what of a collection may be seen, where it is not all of it.
- `snapshot`: `PolicySnapshot`, the whole policy at one moment, which decides.
- `access_review`, `rules_review`: what `kubectl auth can-i` asks, which is wider than one request.
- `messages`: the sentence that a refused user reads.

The rules of the language:

- Without a rule there is no access. A matching `deny: true` rule wins over every other rule.
- `namespaces: ["*"]` also covers cluster-scoped objects and cluster-wide lists, `[""]` only
  cluster-scoped objects. The object of namespace x belongs to namespace x.
- A resource without a group (`deployments`) is that resource in every API group;
  `deployments.apps` is the one of that group, `pods.` that of the core group only.
- A resource never grants its subresources: they are listed (`pods/log`, `*/status`), or granted
  on the parent by the words `logs`, `exec`, `portforward` and `proxy`. `*` is every resource and
  `*/*` every subresource, but `nodes/proxy` and `serviceaccounts/token`, which give away a node
  and a credential, are granted only when they are spelled out.
- `verbs: ["*"]` is every verb and every word, but not impersonation.
- A list, watch or deletecollection of which rules grant only some namespaces or names, or deny
  some, is allowed in part: the decision says which objects. It is refused where nothing of it can
  be visible. Only the requested verb counts: `list` for a list, `watch` for a watch; but whoever
  may delete only a part must be allowed to list as well, since that is how the part is found.
- A namespace is an object of itself: `list` on namespaces in the namespace shop shows shop. A right
  on other things in a namespace does not show the namespace.
- Other requests than these carry a name, or rules with `names` do not grant them: they do not let
  anybody create objects.
- A deny rule reaches as far as its words may: a denied resource takes its subresources with it,
  and a denied name also denies whatever would reach it unnamed, but for lists and watches, which
  it shortens.
- Discovery, /version, /openapi and health are open to everyone with a role on the cluster, and
  so are the questions about oneself (SelfSubjectAccessReview and its kin).
"""
