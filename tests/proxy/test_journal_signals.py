"""A running central whose journal goes away: SIGHUP, kill -9, and what readiness says."""
