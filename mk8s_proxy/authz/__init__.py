"""Authorization: may this user do this on this cluster? Pure: no input, output, clock or database.

Read in this order:

- `attributes`: the question (`Attributes`, made from a RequestInfo by `required_attributes`) and
  the answer (`Decision`, which denies unless somebody says otherwise).
- `policy`: the policy language, as written in YAML and kept in the database, and its validation.
- `scopes`: which resources of Kubernetes live outside namespaces.
- `compile`: rules made ready for matching, and the index over them.
- `snapshot`: `PolicySnapshot`, the whole policy at one moment, which decides.
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
- Names are visible only where a request carries one: a rule with `names` grants neither a list
  without a field selector on metadata.name nor the creation of an object.
- A deny rule reaches as far as its words may: a denied resource takes its subresources with it,
  and a denied namespace or name also denies whatever would reach it unnamed.
- Discovery, /version, /openapi and health are open to everyone with a role on the cluster, and
  so are the questions about oneself (SelfSubjectAccessReview and its kin).
"""
