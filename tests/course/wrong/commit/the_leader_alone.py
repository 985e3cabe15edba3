# What the leader has stored is called committed.
def commit_index(leader):
    copies = sorted((leader.stored[voter] for voter in leader.voters), reverse=True)
    index = leader.stored[leader.node]
    if index > leader.commit_index and leader.term_at(index) == leader.term:
        return index
    return leader.commit_index
