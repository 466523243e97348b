"""The labelling page and its HTTP API. Never loads torch.

app.py        the FastAPI application: rooms put together
api.py        the calls
wire.py       what goes over the wire
door.py       who asks, and whether they may
pictures.py   images by id: upright, small enough, cached
watch.py      what happens meanwhile: scans, the trainer's news, leases of people who left
server.py     uvicorn, the trainer as a child process, the browser
static/       the page

label_studio.py  the other application: a machine-learning backend for Label Studio
bridge.py        between its projects and ours
tasks.py         which image a task is about
errands.py       what is done meanwhile, one after another
"""
