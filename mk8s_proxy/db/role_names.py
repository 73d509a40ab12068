"""Names of roles turned into their ids. Called by what gives roles: users, service tokens, groups
and federation rules."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.models import Role


async def ids_of_roles(session: AsyncSession, names: Iterable[str]) -> dict[str, str]:
    """The id of each role, by its name and in the order of the names.

    Raises:
        NotFound: a role does not exist.
    """
    wanted = sorted(set(names))
    known = select(col(Role.name), col(Role.id)).where(col(Role.name).in_(wanted))
    ids = dict((await session.execute(known)).all())
    for name in wanted:
        if name not in ids:
            raise NotFound("role", name)
    return {name: ids[name] for name in wanted}
