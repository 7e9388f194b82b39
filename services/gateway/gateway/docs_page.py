"""The API document, readable: Swagger UI from a wheel, so that the page needs no network but ours."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from common.errors import NotFoundError

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Dugout</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="/docs/swagger-ui-bundle.js"></script>
  <script src="/docs/start.js"></script>
</body>
</html>
"""
START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n'
# Swagger UI sets styles of its own and has pictures in data: addresses; a script that was slipped in does not run.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSETS = files("fastapi_offline").joinpath("static")
# By name: media type and content. The script that starts it is a file too, since the policy lets none run in the page.
FILES = {
    "swagger-ui.css": ("text/css", _ASSETS.joinpath("swagger-ui.css").read_bytes()),
    "swagger-ui-bundle.js": ("text/javascript", _ASSETS.joinpath("swagger-ui-bundle.js").read_bytes()),
    "start.js": ("text/javascript", START.encode()),
}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Public in every environment."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})


@router.get("/docs/{name}")
async def file(name: str) -> Response:
    """What the page is made of."""
    if name not in FILES:
        raise NotFoundError
    media_type, content = FILES[name]
    return Response(content, media_type=media_type, headers={"Cache-Control": "public, max-age=86400"})
