"""The peer of the REST API: it reads an order with the same model and framework, and answers with it."""

import sys

import uvicorn
from fastapi import FastAPI

from lastmile.api.order_models import OrderRequest
from lastmile.devstack.ports import HOST

app = FastAPI()


@app.post("/v1/orders", status_code=202)
async def echo(body: OrderRequest) -> OrderRequest:
    return body


@app.get("/healthz")
async def health() -> str:
    return "ok"


if __name__ == "__main__":
    uvicorn.run(app, host=HOST, port=int(sys.argv[1]), log_level="error", http="httptools")
