"""Lists and watches shortened to what a user may see, while they stream through.

Used by `mk8s_proxy.answers.choose` for requests whose decision carries a `Visibility`; all other
requests never come here. Read in this order:

- `request`: what of the request must change so that the answer can be judged: JSON, uncompressed,
  unconditional, and with the objects' metadata in tables.
- `json_values`: where JSON values begin and end in a stream of bytes.
- `objects`: which object an item, a row or an event is about.
- `list_filter`, `watch_filter`: the two forms of an answer. Both take bytes and return bytes.
- `continue_token`: page tokens, which name the last object of a page and are therefore sealed.
- `interceptor`: the leg between the tunnel's stream and the client's.
- `collection_deletion`: a deletecollection of a part, which central carries out object by object
  (`delete_options`: what is asked for each; `deletion_candidates`: which ones; `part_request`: one
  request).

What passes is what the API server wrote, byte for byte. What could be read in two ways, or is of a
form that is not known here, ends the answer with an error: it never passes unjudged.
"""
