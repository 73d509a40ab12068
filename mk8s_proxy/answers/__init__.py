"""Answers that are changed on their way: filtered lists and watches, and reviews.

Called by `chain`, which asks `choose` for the interceptor that a decision needs; all other answers
never come here. An interceptor (`interceptor`) sits between the tunnel's stream and the client's
and takes bytes and gives bytes. It may not open anything, and what it does not understand ends the
answer as an error.
"""
