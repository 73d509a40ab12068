"""What OpenID providers and issuers of jobs' tokens say, believed only once it is verified.

Called by `api`, for people (`provider`) and for jobs (`token_issuer`).

- `fetch`: one bounded request to a provider; the only door to the network.
- `token_issuer`: discovery and public keys of one issuer, remembered, fetched anew in measure.
- `keys`, `id_token`: public keys, and what a good token looks like; pure.
- `claims`: who it is and in which groups, by the settings' rules; pure.
- `provider`: the authorization code flow and the refresh at a provider of people.
- `providers`: all of them, made of the settings.

Trust boundary: the settings name the issuers. A token names neither the key nor the algorithm that
it is verified by; a provider's answers are bounded in size and time, and lead nowhere else.
"""
