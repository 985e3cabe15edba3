"""The lab: clusters of real processes, clients, load, and the verdict on what they did.

- :mod:`.cluster` starts nodes (:mod:`.launcher`, :mod:`.start`, :mod:`.ports`), hurts them, and watches them
  (:mod:`.feed`); :mod:`.queries` asks them; :mod:`.tables` shows what they say.
- :mod:`.client` sends single orders, :mod:`.load_client` very many.
- :mod:`.membership` adds, removes and replaces nodes; :mod:`.links` makes links between them bad.
- :mod:`.verdict` judges a run: :mod:`.evidence` is collected (:mod:`.collector` reads the log along with it), the log
  is replayed (:mod:`.replay`), each promise has a function in :mod:`.checks`.
- :mod:`.processes` finds what runs on this machine and ends what a crash left behind.

Import what you need from the modules, or from :mod:`zmqlab`; nothing is imported here.
"""
