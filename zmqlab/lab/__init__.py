"""The lab: clusters of real processes that are started, broken, mended, scaled, loaded and watched from Python.

``from zmqlab import Cluster, LoadClient`` is its door for people. It knows nothing of charts and pages: a display reads
from :data:`~zmqlab.lab.fault_kinds.FAULTS` what can be broken, and how that looks. It judges nothing: that is
:mod:`zmqlab.judge`'s.

A cluster:

* :mod:`~zmqlab.lab.cluster`: the front, one method for each thing that a person does; begin here.
* :mod:`~zmqlab.lab.hosts`: where nodes run: the interface, and this machine as its implementation.
* :mod:`~zmqlab.lab.dask_host`: the workers of a Dask cluster as another host: which one gets which node.
* :mod:`~zmqlab.lab.dask_links`: the way to one worker: calls, its nodes as they are known here, its clock.
* :mod:`~zmqlab.lab.worker_nodes`: what lives in a worker: nodes and load generators, on a lease of their owner.
* :mod:`~zmqlab.lab.clock_samples`: how far the clock of another machine is from the one here, and how surely.
* :mod:`~zmqlab.lab.external_host`: nodes that were started elsewhere: attached to, and what can't be done to them.
* :mod:`~zmqlab.lab.node_plan`: what all nodes have in common, and what each of the first nodes is told.
* :mod:`~zmqlab.lab.fleet`: the nodes' processes: what each was told, whether it runs, and how it ended.
* :mod:`~zmqlab.lab.turns`: which thread is at work on which node; the others wait.
* :mod:`~zmqlab.lab.scaling`: the members and the leader: add, remove, replace, hand over.
* :mod:`~zmqlab.lab.placed_members`: with shards: where replicas are, and whether that is where they are to be.
* :mod:`~zmqlab.lab.scaling_by_hand`: ``zmqlab scale``: nodes come and go that no object owns.
* :mod:`~zmqlab.lab.run_folders`: a run's folder: logs, journals, who uses it, what starts its cluster again.
* :mod:`~zmqlab.lab.started_cluster`: all of these together: made, begun, ended.
* :mod:`~zmqlab.lab.rolling_change`: other settings for its nodes, one after the other, while it goes on.
* :mod:`~zmqlab.lab.register`: the clusters of this process; what its maker has lost sight of ends.
* :mod:`~zmqlab.lab.feed`: what nodes and load clients publish: newest figures, events, checkpoints, trades.
* :mod:`~zmqlab.lab.listeners`: who hears the news: callbacks, each slow one in a thread of its own.
* :mod:`~zmqlab.lab.published`: what nodes have published last, by node and by Raft group.
* :mod:`~zmqlab.lab.consistency`: whether nodes have the same state, and from which index on they do not.
* :mod:`~zmqlab.lab.trace_leases`: tracing that is asked for, and asked for again.
* :mod:`~zmqlab.lab.sampled_traces`: what traced processes told, for pictures and diagrams.
* :mod:`~zmqlab.lab.traced_parts`: which of it belongs to one request, or to one election.
* :mod:`~zmqlab.lab.message_matching`: messages put together from what both of their ends told.

What breaks:

* :mod:`~zmqlab.lab.events`: the kinds of event, and how events look: marks and bands.
* :mod:`~zmqlab.lab.fault_table`: the table of what the nodes suffer: bad links, disks, clocks and clients.
* :mod:`~zmqlab.lab.faults`: faults as values, which strike and undo: of processes, members and links.
* :mod:`~zmqlab.lab.node_faults`: the same for what a node suffers by itself: its disk, its clock, its clients.
* :mod:`~zmqlab.lab.fault_verbs`: the verbs of a cluster that strike with them.
* :mod:`~zmqlab.lab.fault_registry`: what a kind of fault has: marks and bands, buttons, draws of torture.
* :mod:`~zmqlab.lab.fault_kinds`: all kinds: how each looks, which buttons start it, how torture draws it.
* :mod:`~zmqlab.lab.incidents`: what each fault cost.
* :mod:`~zmqlab.lab.film`: the seconds around a fault in slow motion.
* :mod:`~zmqlab.lab.group_facts`: what is known of each of several Raft groups, and what is wrong with them.
* :mod:`~zmqlab.lab.service_facts`: what is known of a cluster and its load now, and the watch that collects it.
* :mod:`~zmqlab.lab.service_status`: whether clients are served now, and if not, why: one line.

Load:

* :mod:`~zmqlab.lab.load_client`: a load client in a process of its own: started, steered, waited for, judged.
* :mod:`~zmqlab.lab.load_run`: the process of a load client, the messages to it, the folder of its record.
* :mod:`~zmqlab.lab.load_team`: several load generators as one load client.
* :mod:`~zmqlab.lab.load_parts`: one of them: the interface, and one on this machine.
* :mod:`~zmqlab.lab.evidence_of_run`: which nodes are asked for the evidence of a run, for which Raft group.
* :mod:`~zmqlab.lab.so_far`: the thread that counts what a run has lost so far.
* :mod:`~zmqlab.lab.sweep`: response time over a rising rate.
* :mod:`~zmqlab.lab.scraping`: what Prometheus is told of nodes and load clients.

This machine:

* :mod:`~zmqlab.lab.processes`: which nodes and load clients run here, and how to end what a crash left behind.

Import what you need from the modules; nothing is imported here.
"""
