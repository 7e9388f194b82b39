"""What routes ask for, by name."""

from typing import Annotated, cast

from fastapi import Depends, Request

from common.identity import Service, require_scope
from rag.resources import Resources


def _resources(request: Request) -> Resources:
    return cast("Resources", request.state.resources)


ResourcesDep = Annotated[Resources, Depends(_resources)]
Answering = Annotated[Service, Depends(require_scope("rag:answer"))]
Publishing = Annotated[Service, Depends(require_scope("rag:documents"))]
