"""What routes ask for, by name."""

from typing import Annotated, cast

from fastapi import Depends, Request

from common.identity import ACTOR_HEADER, Service, User, acting_user, require_scope
from rag.resources import Resources


def _resources(request: Request) -> Resources:
    return cast("Resources", request.state.resources)


async def _actor(request: Request) -> User | None:
    """The person for whom a service calls; jobs call for nobody."""
    return await acting_user(request) if ACTOR_HEADER in request.headers else None


ResourcesDep = Annotated[Resources, Depends(_resources)]
Answering = Annotated[Service, Depends(require_scope("rag:answer"))]
Publishing = Annotated[Service, Depends(require_scope("rag:documents"))]
ActorDep = Annotated[User | None, Depends(_actor)]
