"""``python -m zmqlab.cli``: the same as the ``zmqlab`` command."""

from zmqlab.cli import main

main()
