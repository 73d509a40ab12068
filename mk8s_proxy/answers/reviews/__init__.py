"""What may I do, and whose token is this? The cluster's answers, made true for whom mk8s let in.

`kubectl auth can-i` and its kin post a review to the API server, which answers for the user that
the agent impersonates: that is the cluster's word, not yet mk8s's. An interceptor holds the answer
back until it is whole and says yes only where both do:

- SelfSubjectAccessReview: `status.allowed` of both; the reason names the rule of mk8s that said no.
- SelfSubjectRulesReview: the rules that both have; `incomplete` where Kubernetes's rules have no
  words for those of mk8s.
- TokenReview: one about a token of mk8s is answered by mk8s, which alone can judge it, and the
  cluster never sees that token; every other token is the cluster's business.

An answer that is no success passes as it is, and so does one that both agree on, byte for byte. One
that cannot be understood is 502: never a yes. SelfSubjectReview names the user as the cluster sees
it, and needs no interceptor; reviews about others (SubjectAccessReview, LocalSubjectAccessReview)
are the cluster's own answer about its own RBAC.
"""
