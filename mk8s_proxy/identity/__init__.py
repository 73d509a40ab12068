"""Who is calling: tokens, passwords, certificates, and what a wrong guess costs.

Called by `chain` (once per request), `tunnel` and `api`.

- `access_token`: RS256 tokens, minted and verified here and nowhere else.
- `identity`: what a verified token says, as the value that travels along the chain.
- `directory`: the users a token may still speak for (not disabled, same token epoch).
- `passwords`: bcrypt, off the event loop, the same time for users that do not exist.
- `throttle`: the growing delay after failures, per account and per source.
- `refresh`: opaque refresh tokens, rotated at each use; a token used twice ends its login.
- `oidc`: providers of single sign-on, and what their tokens are worth.
- `join_token`: what an agent shows once to be admitted.
- `ca`, `server_certificate`: the authorities of agents and of central, and central's certificates.

Nothing on a request's way imports a socket or reads the database. Trust boundary: everything
that a token or a body says is hostile until `TokenAuthenticator.authenticate` returned; the
only keys it knows are the ones in memory, so no token can name, carry or fetch its own key.
"""
