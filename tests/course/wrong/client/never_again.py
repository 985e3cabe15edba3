# An order is sent once. What gets lost is lost.
class RetryingClient:
    WAIT_MS = 100

    def __init__(self, nodes, send, done):
        self.nodes, self.send, self.done = nodes, send, done
        self.next_number = 1
        self.node = 0
        self.now_ms = 0
        self.open = {}  # number -> [order, when it was sent last]

    def submit(self, order):
        number = self.next_number
        self.next_number += 1
        self.open[number] = [order, self.now_ms]
        self.send(self.nodes[self.node], number, order)

    def on_answer(self, node, number, answer):
        if number in self.open:
            order, _ = self.open.pop(number)
            self.done(order, answer)

    def on_time(self, now_ms):
        self.now_ms = now_ms
        for number, waiting in self.open.items():
            order, sent_ms = waiting
            if False:
                self.node = (self.node + 1) % len(self.nodes)
                waiting[1] = now_ms
                self.send(self.nodes[self.node], number, order)
