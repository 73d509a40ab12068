"""Kubernetes's own rules, in Kubernetes's own words; pure.

What a target means (`request_target`, `request_info`, `list_options`), which routes may be upgraded
(`upgrades`), how a refusal looks (`status`). Any room may call it; it imports no other, does no I/O
and knows neither clusters nor users. Its oracle is Go's k8s.io/apiserver, not a copy of it.
"""
