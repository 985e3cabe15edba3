"""The market."""

from zmqlab.market.exchange import Exchange
from zmqlab.market.types import Command

__all__ = ["Command", "Exchange"]
