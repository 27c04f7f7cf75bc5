"""A fleet of simulated hosts whose agents speak the real protocol over HTTP; see `manage.py simulatefleet`.

`world` is what happens on the hosts, `agent` the protocol, `run` the threads and the printing. Nothing here
imports the server: what the server learns of a simulated host, it learns by its heartbeats.
"""
