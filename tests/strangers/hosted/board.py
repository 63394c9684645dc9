"""Flask with a session, an upload that is read as a stream, and a generator."""

from collections.abc import Iterator

from flask import Flask, Response, request, session

app = Flask(__name__)
app.secret_key = "only a test"


@app.get("/")
def index() -> str:
    session["visits"] = session.get("visits", 0) + 1
    return f"visit {session['visits']}\n"


@app.get("/users/<int:user_id>")
def user(user_id: int) -> dict[str, int]:
    return {"id": user_id}


@app.post("/size")
def size() -> str:
    return f"{len(request.get_data())}\n"


@app.get("/lines")
def lines() -> Response:
    def stream() -> Iterator[str]:
        for number in range(3):
            yield f"{number}\n"

    return Response(stream(), mimetype="text/plain")


@app.get("/fail")
def fail() -> str:
    raise RuntimeError("the board breaks")
