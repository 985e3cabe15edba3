# A buyer gets the dearest ask that it would pay.
class OrderBook:
    def __init__(self):
        self.resting = []  # [order_id, side, price, quantity], in the order of their arrival

    def limit(self, order_id, side, price, quantity):
        fills = []
        while quantity and (best := self.best_for(side, price)):
            traded = min(quantity, best[3])
            fills.append((best[0], best[2], traded))
            quantity -= traded
            best[3] -= traded
            if not best[3]:
                self.resting.remove(best)
        if quantity:
            self.resting.append([order_id, side, price, quantity])
        return fills

    def best_for(self, side, price):
        """The order that trades next with an order of this side and price."""
        if side == "buy":
            asks = [order for order in self.resting if order[1] == "sell" and order[2] <= price]
            return max(asks, key=lambda order: order[2], default=None)  # the first one of equals
        bids = [order for order in self.resting if order[1] == "buy" and order[2] >= price]
        return max(bids, key=lambda order: order[2], default=None)

    def cancel(self, order_id):
        for order in self.resting:
            if order[0] == order_id:
                self.resting.remove(order)
                return True
        return False

    def depth(self):
        bids, asks = {}, {}
        for _, side, price, quantity in self.resting:
            levels = bids if side == "buy" else asks
            levels[price] = levels.get(price, 0) + quantity
        return sorted(bids.items(), reverse=True), sorted(asks.items())
