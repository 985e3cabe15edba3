"""The load client: it offers orders to a cluster at a given rate and measures what becomes of them.

The loop is open. A schedule that is made beforehand says when each order is meant to be sent. The generator sends what
is due, whatever has been answered, and measures from the intended time, so that a stalled cluster can't hide its stall.

::

    order_flow ─┐                                            ┌─▶ measurement ──▶ run_record ──▶ load_report
    schedule ───┴─▶ generator ──▶ session_pool ──▶ cluster ──┴─▶ history
                     (the loop)    (exactly once)

The package knows clients (:mod:`zmqlab.client`), the wire format and the types of the market. It knows nothing of how
clusters are started and of what a verdict is. ``load_settings``, ``load_messages`` and ``history`` are free of numpy,
because the parent of a load process and the readers of a history import them; nothing is imported here for the same
reason.

Modules, in reading order:

* :mod:`~zmqlab.load.load_settings`: what a load client is told: rate, mix of orders, time-outs, seeds.
* :mod:`~zmqlab.load.order_flow`: the orders, and the pool of resting orders that cancels and replaces name.
* :mod:`~zmqlab.load.schedule`: when each order is meant to be sent.
* :mod:`~zmqlab.load.session_pool`: several sessions in one thread, driven as one.
* :mod:`~zmqlab.load.book_reader`: reads books beside the load, for the verdict.
* :mod:`~zmqlab.load.generator`: the open loop: sends what is due; which orders count as sent, late or held back.
* :mod:`~zmqlab.load.measurement`: counts, latencies, snapshots.
* :mod:`~zmqlab.load.load_messages`: what a load client tells while it runs, and its result.
* :mod:`~zmqlab.load.run_record`: what a run leaves on disk as it goes: acknowledged requests, each second.
* :mod:`~zmqlab.load.merged_load`: several load generators as one: snapshots and results.
* :mod:`~zmqlab.load.load_report`: a result as people read it.
* :mod:`~zmqlab.load.history`: the file of all operations of a run: its format, its reader and its writer.
* :mod:`~zmqlab.load.load_process`: a load client as a process of its own, and its conversation with its parent.
"""
