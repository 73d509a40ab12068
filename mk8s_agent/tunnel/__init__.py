"""The tunnels to central: dialled (`dialer`), spoken on (`control_session`), served (`session`).

Called by `agent`. `data_plane` joins a tunnel's streams with the API server's connections. A tunnel
that breaks ends alone; nothing here knows a user or decides what may be asked.
"""
