"""The database of central: tables, engine, stores and migrations.

Nothing on the path of a request reads it. The management API and the background loops call the
stores (``users``, ``roles``, ``clusters``, ``tokens``, ``keys``, ``policy``, ``audit_logs``); each
store takes a started :class:`mk8s_proxy.db.engine.Database`, answers with plain frozen records and
raises only the errors of :mod:`mk8s_proxy.db.errors`. SQLModel never leaves this package.

Every change of users, roles, their assignment or clusters raises the ``policy_version`` counter
**first** and in the same transaction. The counter's row lock therefore puts all such changes in
one order, on both databases: a check made after it ("is this the last admin?") cannot be
overtaken, and a version number seen by a reader always stands for everything committed up to it.
"""
